"""What training and evaluation of a config need on a slice of TPUs, by compiling their steps for it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import jax
from rich.console import Console

from adafocus_jax.config import (
    batch_shapes,
    clip_spec,
    for_classes,
    loss_function,
    make_model,
    optimizer_options,
    train_options,
)
from adafocus_jax.errors import UserError
from adafocus_jax.ops.platform import lowering_for
from adafocus_jax.plan.chips import Topology
from adafocus_jax.plan.search import largest_batch
from adafocus_jax.plan.steps import StepPlan, estimate, lower_evaluation, plan_step
from adafocus_jax.train.loop import make_step_and_state
from adafocus_jax.train.memory import GIB, OutOfMemoryError
from adafocus_jax.train.step import check_batch_size


def plan_training(
    settings: Mapping[str, Any],
    topology: Topology,
    *,
    max_compiles: int = 8,
    thorough: bool = False,
    core_rate: float | None = None,
) -> dict[str, Any]:
    """Compiles the training and the evaluation step for a slice and reads off what they need.

    Changes JAX's configuration: no compilation cache, and, unless ``thorough``, little optimisation.

    Args:
      settings: a checked configuration with ``model.num_classes`` set.
      topology: of ``open_topology``.
      max_compiles: how often to compile in search of the largest batch; 0: no search.
      thorough: optimise as fully as training would: four times slower, memory hardly differs.
      core_rate: videos per second that one CPU core decodes; adds ``data_cores``, the cores that feed the slice.

    Returns:
      ``train`` and ``evaluate``: ``fits``, and per chip ``memory``, ``collectives``, ``gathers``, ``flops``,
      ``bytes_accessed`` and ``estimate``, or ``needed_bytes`` and ``available_bytes`` where it does not fit;
      ``largest_batch``; what was planned for; and ``status``, 1 if a step does not fit.

    Raises:
      UserError: the number of classes is not set, or the batch does not divide over the chips.
    """
    # Programs for chips that are not here cannot be read back.
    jax.config.update("jax_compilation_cache_dir", None)
    jax.config.update("jax_exec_time_optimization_effort", 0.0 if thorough else -1.0)
    classes, batch_size = settings["model"]["num_classes"], settings["train"]["batch_size"]
    if not classes:
        raise UserError(
            "config.model.num_classes is 0, to be taken from the data: give --config.model.num_classes=K"
        )
    chips, accumulate = len(topology.devices), settings["train"]["accumulate"]
    check_batch_size(batch_size, chips, accumulate)
    # Any names do: shapes depend on their number alone, also where clips are mirrored with their labels.
    planner = Planner(for_classes(settings, [f"class {k}" for k in range(classes)]), topology)
    steps = {name: planner.step(name, batch_size, core_rate) for name in ("train", "evaluate")}
    figures: dict[str, Any] = {
        "topology": topology.name,
        "chips": chips,
        "batch_size": batch_size,
        "parallel": settings["train"]["parallel"],
        "dtype": settings["model"]["dtype"],
        "hbm_gib": topology.chip.hbm_gib,
        **steps,
        "status": 0 if all(step["fits"] for step in steps.values()) else 1,
    }
    if max_compiles > 0:
        found = largest_batch(
            planner.needed,
            capacity=planner.capacity,
            multiple=chips * accumulate,
            tried=(batch_size, planner.needed(batch_size)),
            max_tries=max_compiles,
        )
        figures["largest_batch"] = asdict(found)
    return figures


class Planner:
    """Compiles the steps of one config for one slice."""

    def __init__(self, settings: Mapping[str, Any], topology: Topology) -> None:
        self.settings, self.topology = settings, topology
        self.capacity = topology.chip.hbm_gib * GIB
        self.model = make_model(settings)
        self.console = Console(stderr=True)
        self.needs: dict[int, float] = {}
        """Bytes per chip of training, by batch size; more than ``capacity`` where the compiler refused."""

    def step(self, name: str, batch_size: int, core_rate: float | None) -> dict[str, Any]:
        """The figures of one step. Bytes and FLOPs are per chip."""
        try:
            plan = self.compile(name, batch_size)
        except OutOfMemoryError as error:
            return {"fits": False, "needed_bytes": error.needed, "available_bytes": error.available}
        guess = estimate(plan, self.topology)
        rate = batch_size / guess.step_sec
        figures = {"fits": True, **asdict(plan), "estimate": {**asdict(guess), "videos_per_sec": rate}}
        for gather, row in zip(plan.gathers, figures["gathers"], strict=True):
            row["of_pixels"] = gather.of_pixels
        if core_rate:
            figures["estimate"]["data_cores"] = rate / core_rate
        return figures

    def needed(self, batch_size: int) -> float:
        """Bytes per chip of training; the compiler has the last word on what fits."""
        if batch_size not in self.needs:
            with contextlib.suppress(OutOfMemoryError):
                self.compile("train", batch_size)
        return self.needs[batch_size]

    def compile(self, name: str, batch_size: int) -> StepPlan:
        """Compiles ``train`` or ``evaluate``; raises OutOfMemoryError where it does not fit."""
        began, what = time.monotonic(), f"{name} step, batch {batch_size}, {self.topology.name}"

        def done(need: float, outcome: str) -> None:
            if name == "train":
                self.needs[batch_size] = need
            self.console.print(f"{what}: {outcome} ({time.monotonic() - began:.0f} s)", highlight=False)

        try:
            with self.console.status(f"compiling: {what}"), lowering_for("tpu"):
                plan = plan_step(self.lower(name, batch_size))
        except OutOfMemoryError as error:
            done(max(float(error.needed), self.capacity + 1), f"does not fit: {error}")
            raise
        total = plan.memory.total
        done(min(float(total), self.capacity), f"{total / GIB:.2f} GiB per chip")
        return plan

    def lower(self, name: str, batch_size: int) -> jax.stages.Lowered:
        """The step on abstract arguments, ready to be compiled."""
        settings = {**self.settings, "train": {**self.settings["train"], "batch_size": batch_size}}
        shapes = batch_shapes(clip_spec(settings, self.model), batch_size)
        devices = self.topology.devices
        if name == "evaluate":
            return lower_evaluation(self.model, shapes, devices)
        # The number of examples only sets the number of steps, which is a mere constant here.
        options = train_options(settings, num_examples=batch_size)
        # Its own reference batch size, or every batch that is tried would log its learning rate.
        optimizer = replace(optimizer_options(settings), reference_batch_size=batch_size)
        step, create = make_step_and_state(self.model, options, optimizer, loss_function(settings), devices)
        return step.lower(jax.eval_shape(create), shapes)

"""``adafocus plan``: a config file and the name of a TPU slice become what training on it would need."""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

import jax
from rich.console import Console
from rich.table import Table

from adafocus_jax.config import (
    batch_shapes,
    clip_spec,
    for_classes,
    load_config,
    loss_function,
    make_model,
    optimizer_options,
    train_options,
)
from adafocus_jax.errors import UserError
from adafocus_jax.ops.platform import lowering_for
from adafocus_jax.plan import (
    CHIPS,
    StepPlan,
    Topology,
    estimate,
    largest_batch,
    lower_evaluation,
    open_topology,
    plan_step,
)
from adafocus_jax.train.loop import make_step_and_state
from adafocus_jax.train.memory import GIB, OutOfMemoryError
from adafocus_jax.train.step import check_batch_size

_LIMITS = ", ".join(f"{chip.hbm_gib:g} on {name}" for name, chip in CHIPS.items())
_DESCRIPTION = f"""\
Compiles the training and the evaluation step of a config for a slice of TPUs, on a machine that has none (needs the
extra `tpu`), and says what one chip needs: memory by kind, the largest batch that fits, collectives, large gathers, and
an estimate of the step's time from FLOPs and bytes. Compiling a full-size step takes one to several CPU minutes.

A slice is a generation and its chips along each dimension: two of them for v5e and v6e, three for v4 and v5p.
"most at any moment" has to be below the GiB that libtpu leaves to a program: {_LIMITS}.
Where it is not, take more chips, or --config.model.dtype=bfloat16 (about half the memory), --config.train.accumulate=2,
--config.model.remat='.*', or a smaller batch. The largest batch that fits may be slower per video: near the limit
the compiler saves memory by computing values twice. "pixel gathers" should be 0: they are slow on TPUs.

With train.parallel=pmap it is pmap's own program that is compiled (in JAX it is built on jit and shard_map).
Ends with status 1 if a step does not fit."""
_EXAMPLES = """\
examples:
  adafocus plan --config configs/activitynet.py --topology v5e:2x2
  adafocus plan --config configs/custom.py --topology v5e:4x4 --config.model.num_classes=200 --json plan.json
  adafocus plan --config configs/custom.py:tiny --topology v4:2x2x1 --config.model.num_classes=10 --max-compiles 0"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Fills in the command's parser."""
    parser.description, parser.epilog = _DESCRIPTION, _EXAMPLES
    add = parser.add_argument
    add("--config", required=True, metavar="FILE[:VARIANT]", help="as of adafocus train")
    add("--topology", required=True, metavar="NAME", help="such as v5e:4x4, v6e:2x2, v4:2x2x4, v5p:2x2x1")
    add(
        "--max-compiles",
        type=int,
        default=8,
        metavar="N",
        help="how often to compile in search of the largest batch; 0: no search (default: 8)",
    )
    add(
        "--thorough",
        action="store_true",
        help="optimise as fully as training would: four times slower, memory hardly differs",
    )
    add(
        "--core-rate",
        type=float,
        metavar="R",
        help="videos per second that one CPU core decodes: also says how many cores feed the slice",
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Prints the plan; returns its figures."""
    topology = open_topology(args.topology)
    # Programs for chips that are not here cannot be read back.
    jax.config.update("jax_compilation_cache_dir", None)
    jax.config.update("jax_exec_time_optimization_effort", 0.0 if args.thorough else -1.0)
    settings = load_config(args.config, args.settings)
    classes = settings["model"]["num_classes"]
    if not classes:
        raise UserError(
            "config.model.num_classes is 0, to be taken from the data: give --config.model.num_classes=K"
        )
    # Any names do: shapes depend on their number alone, also where clips are mirrored with their labels.
    settings = for_classes(settings, [f"class {k}" for k in range(classes)])
    planner = _Planner(settings, topology)
    batch_size, accumulate = settings["train"]["batch_size"], settings["train"]["accumulate"]
    check_batch_size(batch_size, len(topology.devices), accumulate)
    figures: dict[str, Any] = {
        "topology": topology.name,
        "chips": len(topology.devices),
        "batch_size": batch_size,
        "parallel": settings["train"]["parallel"],
        "dtype": settings["model"]["dtype"],
        "hbm_gib": topology.chip.hbm_gib,
    }
    for name in ("train", "evaluate"):
        figures[name] = planner.step(name, batch_size, args.core_rate)
    figures["status"] = 0 if figures["train"]["fits"] and figures["evaluate"]["fits"] else 1
    if args.max_compiles > 0:
        found = largest_batch(
            planner.needed,
            capacity=planner.capacity,
            multiple=len(topology.devices) * accumulate,
            tried=(batch_size, planner.needed(batch_size)),
            max_tries=args.max_compiles,
        )
        figures["largest_batch"] = asdict(found)
    _print(figures)
    return figures


class _Planner:
    """Compiles the steps of one config for one slice."""

    def __init__(self, settings: Mapping[str, Any], topology: Topology) -> None:
        self.settings, self.topology = settings, topology
        self.capacity = topology.chip.hbm_gib * GIB
        self.model = make_model(settings)
        self.console = Console(stderr=True)
        self.needs: dict[int, float] = {}
        """Of training: bytes per chip by batch size; more than ``capacity`` where the compiler refused."""

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
        began, what = time.monotonic(), f"{name} step, batch {batch_size}, {self.topology.name}"

        def done(need: float, said: str) -> None:
            if name == "train":
                self.needs[batch_size] = need
            self.console.print(f"{what}: {said} ({time.monotonic() - began:.0f} s)", highlight=False)

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
        settings = {**self.settings, "train": {**self.settings["train"], "batch_size": batch_size}}
        shapes = batch_shapes(clip_spec(settings, self.model), batch_size)
        devices = self.topology.devices
        if name == "evaluate":
            return lower_evaluation(self.model, shapes, devices)
        # Of the number of examples only the number of steps depends, which is no more than a constant here.
        options = train_options(settings, num_examples=batch_size)
        # Its own reference: a log line on the learning rate of every batch that is tried would only distract.
        optimizer = replace(optimizer_options(settings), reference_batch_size=batch_size)
        step, create = make_step_and_state(self.model, options, optimizer, loss_function(settings), devices)
        return step.lower(jax.eval_shape(create), shapes)


def _print(figures: Mapping[str, Any]) -> None:
    title = (
        f"{figures['topology']}: {figures['chips']} chips, batch {figures['batch_size']}, {figures['dtype']}"
    )
    table = Table("per chip and step", "train", "evaluate", title=title, title_style="bold")
    steps = [figures["train"], figures["evaluate"]]
    for label, text in _ROWS.items():
        table.add_row(label, *(text(step) if step["fits"] else "" for step in steps))
    table.add_row("fits", *(_fits(step, figures["hbm_gib"]) for step in steps))
    console = Console()
    console.print(table)
    if found := figures.get("largest_batch"):
        console.print(f"largest batch that fits: {_largest(found)}", highlight=False)
    for name in ("train", "evaluate"):
        for gather in figures[name].get("gathers", ()):
            kind = "PIXELS gathered" if gather["of_pixels"] else "rows or frames copied"
            size = f"{gather['bytes'] / 2**20:.1f} MiB of {gather['operand']}"
            console.print(f"{name}: {kind}, {size}, at {gather['place']}", highlight=False, soft_wrap=True)


def _largest(found: Mapping[str, Any]) -> str:
    size, too_large = found["batch_size"], found["too_large"]
    if found["exact"]:
        return f"{size} ({too_large}, the next larger, does not)"
    known = f"{too_large} does not" if too_large else "all that were tried do"
    return f"{size} or more ({known}): raise --max-compiles to narrow it down"


def _gib(key: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda step: f"{step['memory'][key] / GIB:.3f} GiB"


def _traffic(step: Mapping[str, Any]) -> str:
    kinds = (f"{c['count']} {kind}, {c['bytes'] / 2**20:.1f} MiB" for kind, c in step["collectives"].items())
    return "\n".join(kinds) or "none"


def _estimate(step: Mapping[str, Any]) -> str:
    guess = step["estimate"]
    lines = [
        f"{1000 * guess['step_sec']:.1f} ms a step, {guess['videos_per_sec']:.0f} videos/s",
        f"computing {1000 * guess['compute_sec']:.1f} ms, memory {1000 * guess['memory_sec']:.1f} ms,",
        f"collectives {1000 * guess['collectives_sec']:.1f} ms",
    ]
    if "data_cores" in guess:
        lines.append(f"{guess['data_cores']:.0f} CPU cores to decode")
    if step["loops"]:
        lines.append(f"too fast: loops of {step['loops']} turns count once")
    return "\n".join(lines)


def _fits(step: Mapping[str, Any], hbm_gib: float) -> str:
    if step["fits"]:
        return f"yes, {100 * step['memory']['total'] / GIB / hbm_gib:.0f}% of {hbm_gib:g} GiB"
    return f"NO: needs {step['needed_bytes'] / GIB:.2f} GiB of {step['available_bytes'] / GIB:.2f}"


_ROWS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "arguments": _gib("arguments"),
    "outputs": _gib("outputs"),
    "  in place of arguments": _gib("aliased"),
    "temporaries": _gib("temporaries"),
    "program": _gib("code"),
    "most at any moment": _gib("total"),
    "FLOPs": lambda step: f"{step['flops'] / 1e9:.1f} G",
    "bytes moved": lambda step: f"{step['bytes_accessed'] / 1e9:.1f} G",
    "collectives": _traffic,
    "pixel gathers": lambda step: str(sum(gather["of_pixels"] for gather in step["gathers"])),
    "ESTIMATE, not measured": _estimate,
}
"""Row of the table to its text."""

"""How much of the multiply-adds that early exit saves it also saves on the clock: the engine, measured."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from adafocus_jax.checkpoint import checkpoint_folder, load_checkpoint
from adafocus_jax.config import clip_spec, complete, for_classes, load_config, make_model
from adafocus_jax.config.base import DEFAULT_CLASSES
from adafocus_jax.data.batches.clips import ClipSpec
from adafocus_jax.data.batches.single import LazyClip, as_video
from adafocus_jax.early_exit import ExitPolicy, choose_policy, exit_shares
from adafocus_jax.engine import Engine, ExitRule, Request
from adafocus_jax.errors import UserError
from adafocus_jax.evaluate.exits import stored_policies
from adafocus_jax.flops import model_cost
from adafocus_jax.models import VideoModel, variable_shapes

IN_FLIGHT = (1, 8, 64, 256)
BUDGETS = (0.75, 0.5, 0.33)
NO_EXITS = "none"
Requests = Callable[[int], Request]
"""From a number, 0, 1, 2, …, to a request with that key."""


class ImposedExits(ExitRule):
    """Videos leave in given shares whatever their logits, evenly spread over time: for weights that know nothing.

    >>> rule = ImposedExits([0.5, 0.0, 0.5])
    >>> rule.leaves(np.zeros((4, 1, 7))).tolist(), rule.leaves(np.zeros((2, 3, 7))).tolist()
    ([True, False, True, False], [True, True])
    """

    def __init__(self, shares: Sequence[float] | np.ndarray) -> None:
        """Takes the share of all videos that leaves at each exit, summing to 1."""
        super().__init__(None, len(shares))
        staying = np.cumsum(shares[::-1])[::-1]
        self._hazard = np.divide(shares, staying, out=np.ones(len(shares)), where=staying > 0)
        self._due = np.full(len(shares), 0.5)

    def open(self, exit_: int) -> bool:
        """Some video leaves at this exit."""
        return bool(self._hazard[exit_] > 0)

    def leaves(self, logits: np.ndarray) -> np.ndarray:
        """Of videos that reach an exit, every 1 / hazard-th leaves."""
        exit_ = logits.shape[1] - 1
        due = self._due[exit_] + self._hazard[exit_] * np.arange(1, len(logits) + 1)
        self._due[exit_] = due[-1] % 1
        return np.floor(due + 1e-9) > np.floor(due - self._hazard[exit_] + 1e-9)


def shares_for_budget(exit_gflops: np.ndarray, budget_frac: float) -> np.ndarray:
    """The shares ``p_k ∝ q^k`` (see ``exit_shares``) whose mean cost is a share of the full one.

    Args:
      exit_gflops: ``[E]``: of the exits that count.
      budget_frac: mean cost over the cost of the last exit.

    Raises:
      UserError: less than the first exit costs, or not below 1.

    >>> shares_for_budget(np.array([1.0, 4.0]), 0.625).round(3).tolist()
    [0.5, 0.5]
    """
    lowest = exit_gflops[0] / exit_gflops[-1]
    if not lowest < budget_frac < 1:
        raise UserError(
            f"budget {budget_frac}: give a share of the full cost above {lowest:.2f}, the first exit's, and below 1"
        )
    low, high = -20.0, 20.0  # of log q
    for _ in range(60):
        middle = (low + high) / 2
        cost = exit_shares(float(np.exp(middle)), len(exit_gflops)) @ exit_gflops
        low, high = (middle, high) if cost < budget_frac * exit_gflops[-1] else (low, middle)
    return exit_shares(float(np.exp(middle)), len(exit_gflops)).astype(np.float64)


def random_variables(model: VideoModel, seed: int = 0) -> Any:
    """Variables of a model, kernels normal with variance 1 / fan-in and norms at random, without compiling anything."""
    rng = np.random.default_rng(seed)

    def draw(path: Any, shape: jax.ShapeDtypeStruct) -> np.ndarray:
        values = rng.standard_normal(shape.shape, np.float32)
        if len(shape.shape) > 1:
            return values / np.float32(np.sqrt(np.prod(shape.shape[:-1])))
        return np.abs(values) + np.float32(0.5) if path[-1].key in ("var", "scale") else values

    return jax.tree_util.tree_map_with_path(draw, variable_shapes(model))


def synthetic_requests(model: VideoModel, count: int = 8) -> Requests:
    """Noise in memory, ``count`` clips in turn: no time goes into pixels."""
    shape = (count, model.num_candidates, model.image_size, model.image_size, 3)
    clips = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    if model.num_separate_glance is not None:
        glances = clips[:, : model.num_separate_glance]
    else:
        glances = clips if model.glance_candidates is None else clips[:, model.glance_candidates]
    return lambda number: Request(number, glances[number % count], clips[number % count])


def video_requests(paths: Sequence[str], spec: ClipSpec, glance: np.ndarray | None) -> Requests:
    """Videos of ``paths`` in turn, decoded as their pixels are asked for; ``glance``: of the engine, its candidates."""

    def request(number: int) -> Request:
        clips: list[LazyClip] = []

        def first() -> np.ndarray:
            clips.append(LazyClip(as_video(paths[number % len(paths)]), spec))
            if spec.num_glance is not None:
                return clips[0].glance()
            return clips[0].candidates(np.arange(spec.num_candidates) if glance is None else glance)

        return Request(number, first, lambda indices: clips[0].candidates(indices), clips.clear)

    return request


def benchmark_inference(
    config: str | None = None,
    overrides: Sequence[str] = (),
    *,
    checkpoint: str | None = None,
    videos: Sequence[str] | None = None,
    in_flight: Sequence[int] = IN_FLIGHT,
    budgets: Sequence[float] = BUDGETS,
    seconds: float = 10.0,
    progress: Callable[[str], None] = lambda text: None,
    **engine: Any,
) -> dict[str, Any]:
    """``measure_inference`` of the model of a config, with random weights, or of a checkpoint.

    Args:
      config: ``FILE[:VARIANT]``.
      overrides: ``--config.SETTING=VALUE``.
      checkpoint: workdir or folder of checkpoints, in place of ``config``. Where policies are stored with it, videos
        leave by the one that spends the most of a budget.
      videos: paths of video files, folders of frames or volumes; None: noise in memory.
      in_flight: as there.
      budgets: as there.
      seconds: as there.
      progress: as there.
      **engine: arguments of ``Engine``.

    Raises:
      UserError: neither a config nor a checkpoint, or see ``measure_inference``.
    """
    policies: dict[float, ExitPolicy] = {}
    if checkpoint is not None:
        loaded = load_checkpoint(checkpoint)
        settings, variables = complete(loaded.config), loaded.variables
        if stored := stored_policies(checkpoint_folder(checkpoint)):
            policies = {budget: choose_policy(stored, budget_frac=budget) for budget in budgets}
    elif config is not None:
        settings, variables = load_config(config, overrides), None
        classes = settings["model"]["num_classes"] or DEFAULT_CLASSES
        settings = for_classes(settings, [f"class {k}" for k in range(classes)])
    else:
        raise UserError("config=None, checkpoint=None: give one of them")
    model = make_model(settings)
    requests = None
    if videos:
        requests = video_requests(videos, clip_spec(settings, model), model.glance_candidates)
    made = Engine(
        model,
        random_variables(model) if variables is None else variables,
        max_in_flight=max(in_flight),
        **engine,
    )
    figures = measure_inference(
        made,
        requests,
        policies=policies,
        in_flight=in_flight,
        budgets=budgets,
        seconds=seconds,
        progress=progress,
    )
    figures["model"] |= {"name": settings["model"]["name"], "checkpoint": checkpoint}
    return figures


def measure_inference(
    engine: Engine,
    requests: Requests | None = None,
    *,
    policies: Mapping[float, ExitPolicy] | None = None,
    in_flight: Sequence[int] = IN_FLIGHT,
    budgets: Sequence[float] = BUDGETS,
    seconds: float = 10.0,
    progress: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Runs the engine without exits and at each budget, each with different numbers of videos in flight.

    Args:
      engine: for as many videos in flight as are asked for; its policy is changed.
      requests: the videos; None: synthetic ones.
      policies: budget to the policy that meets it; exits are imposed for the others (``ImposedExits``).
      in_flight: numbers of videos in flight.
      budgets: mean cost of a video over the full cost. Ignored in a model of one exit.
      seconds: new videos come for so long in each measurement (and at least as many as are in flight).
      progress: told what is measured.

    Returns:
      ``host``, ``model``, ``stages`` (seconds and rows of the largest bucket) and ``runs``, a list with one entry per
      measurement: videos per second, latency, speed-up over no exits (``speedup``), what multiply-adds
      (``speedup_macs``) and stage times (``speedup_ideal``) promise, ``scheduler_efficiency`` (time of the rows that
      ran, had all buckets been full and one after another, over the wall clock), and the engine's statistics.

    Raises:
      UserError: numbers that are not above 0, or a budget below the cost of the first exit.
    """
    if min(in_flight) < 1 or seconds <= 0:
        raise UserError(f"in_flight={list(in_flight)}, seconds={seconds}: give numbers above 0")
    requests = requests or synthetic_requests(engine.model)
    costs = model_cost(engine.model).exit_gflops[-engine.num_exits :]
    rules: dict[str, ExitPolicy | ExitRule | None] = {NO_EXITS: None}
    for budget in budgets if len(costs) > 1 else ():
        stored = (policies or {}).get(budget)
        rules[f"{budget:g}"] = stored or ImposedExits(shares_for_budget(costs, budget))
    began = time.perf_counter()
    engine.warm_up()
    warm_up_sec = time.perf_counter() - began
    runs: list[dict[str, Any]] = []
    for flying in in_flight:
        for name, rule in rules.items():
            progress(f"{flying} in flight, " + ("no exits" if rule is None else f"budget {name}"))
            engine.policy = rule
            runs.append({"in_flight": flying, "budget": name, **_measure(engine, requests, flying, seconds)})
            _compare(runs[-1], next(run for run in runs if run["in_flight"] == flying))
    return {
        "host": host(),
        "model": {"dtype": str(engine.model.dtype), "exit_gflops": costs.tolist()},
        "warm_up_sec": warm_up_sec,
        "stages": {name: {"rows": rows, "sec": sec} for name, (rows, sec) in engine.stage_seconds().items()},
        "runs": runs,
    }


def _measure(engine: Engine, requests: Requests, in_flight: int, seconds: float) -> dict[str, Any]:
    # Around the run, whose machine may have other work as well.
    before = engine.stage_seconds()
    engine.reset_stats()
    until = time.perf_counter() + seconds

    def coming() -> Iterator[Request]:
        number = 0
        while number < max(4, in_flight) or time.perf_counter() < until:
            yield requests(number)
            number += 1

    latencies = []
    for result in engine.run(coming(), max_in_flight=in_flight):
        if result.error is not None:
            raise result.error
        latencies.append(result.seconds)
    after, stats = engine.stage_seconds(), engine.stats
    per_row = {name: (sec + after[name][1]) / 2 / rows for name, (rows, sec) in before.items()}
    ideal = sum(stats.stages[name].rows * sec for name, sec in per_row.items()) / len(engine.devices)
    latency = 1e3 * np.array(latencies)
    return {
        "videos_per_sec": stats.videos / stats.wall_sec,
        "latency_ms": {"mean": latency.mean(), "p50": np.median(latency), "p95": np.quantile(latency, 0.95)},
        "scheduler_efficiency": ideal / stats.wall_sec,
        "ideal_videos_per_sec": stats.videos / ideal,
        **stats.as_dict(),
    }


def _compare(run: dict[str, Any], without: Mapping[str, Any]) -> None:
    """Adds the speed-ups over the run without exits."""
    run["speedup"] = run["videos_per_sec"] / without["videos_per_sec"]
    run["speedup_latency"] = without["latency_ms"]["mean"] / run["latency_ms"]["mean"]
    run["speedup_macs"] = without["mean_gflops"] / run["mean_gflops"]
    run["speedup_ideal"] = run["ideal_videos_per_sec"] / without["ideal_videos_per_sec"]


def host() -> dict[str, Any]:
    """Hardware and versions, for figures that leave this machine."""
    device = jax.devices()[0]
    return {
        "device": device.device_kind,
        "platform": device.platform,
        "devices": jax.local_device_count(),
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "flax", "numpy")},
    }


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()

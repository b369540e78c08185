"""The training loop: resume or start, step, log, evaluate, save, until the end, a signal or divergence."""

from __future__ import annotations

import logging
import math
import os
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from adafocus_jax.checkpoint import FOLDER, Checkpoints
from adafocus_jax.errors import UserError
from adafocus_jax.models import VideoModel, init_variables
from adafocus_jax.train.interrupt import StopRequestedError, StopSignals
from adafocus_jax.train.logger import Meter, MetricWriter, ProgressView, describe_not_finite
from adafocus_jax.train.memory import check_memory
from adafocus_jax.train.optimizer import OptimizerOptions, make_optimizer
from adafocus_jax.train.processes import naming_lost_processes, require_same
from adafocus_jax.train.profiler import Profiler
from adafocus_jax.train.state import TrainState, create_state, run_keys
from adafocus_jax.train.step import (
    LossFunction,
    Parallel,
    TrainStep,
    check_batch_size,
    fetch_scalars,
    make_train_step,
)
from adafocus_jax.train.utilization import peak_flops, peak_memory_gib
from adafocus_jax.types import Array, VideoBatch

log = logging.getLogger(__name__)

Batches = Callable[[int], Iterable[Mapping[str, np.ndarray]]]
"""From the first step wanted to the batches of this process from there on, fields of ``VideoBatch``."""
Evaluate = Callable[[dict[str, Any], Callable[[int], None]], Mapping[str, float | np.ndarray]]
"""From ``{"params", "batch_stats"}`` on the host to named numbers, and pictures as RGB uint8 ``[H, W, 3]``. Calls its
second argument after each batch, in all processes equally often, with the number of videos: a signal ends it there."""
Initialize = Callable[[dict[str, Any]], dict[str, Any]]
"""From fresh ``{"params", "batch_stats"}`` on the host to those to start from."""


@dataclass(frozen=True)
class TrainOptions:
    """How long, how often, how wide."""

    num_steps: int
    batch_size: int
    """Videos per step, all devices together."""
    seed: int = 0
    parallel: Parallel = "pmap"
    accumulate: int = 1
    """Parts that each device's share of a batch is cut into, to save memory."""
    on_nan: Literal["stop", "skip"] = "stop"
    """A step that is not finite ends the run, or its update is dropped and counted."""
    log_every: int = 10
    """Steps between rows of figures, which are means over them."""
    eval_every: int = 0
    """Steps between evaluations; there is always one at the end. 0: only there."""
    checkpoint_every: int = 0
    """Steps between checkpoints; there is always one at the end and with every evaluation. 0: only there."""
    best_metric: str = "top1"
    """The number of an evaluation by which the best checkpoint is chosen, higher is better."""
    peak_tflops: float = 0.0
    """What one device can do, for the share of it that is used; 0: as known for its kind."""
    profile: tuple[int, int] | None = None
    """First step and number of steps, counted in the run, of a ``jax.profiler`` trace in ``WORKDIR/profile``."""


@dataclass(frozen=True)
class TrainResult:
    """Where training stands when it returns."""

    step: int
    metrics: dict[str, float] = field(default_factory=dict)
    """Of the last evaluation; empty if there was none."""
    signal: int | None = None
    """The signal that stopped it; None when all steps are done."""


class TrainingDivergedError(RuntimeError):
    """A loss or a gradient is no longer finite. The message is one line with step, terms and last checkpoint."""


@naming_lost_processes()
def train(
    model: VideoModel,
    batches: Batches,
    *,
    workdir: str | os.PathLike[str],
    options: TrainOptions,
    optimizer: OptimizerOptions,
    loss: LossFunction,
    batch_shapes: VideoBatch,
    config: Mapping[str, Any],
    free_keys: Collection[str] = (),
    evaluate: Evaluate | None = None,
    initialize: Initialize | None = None,
) -> TrainResult:
    """Trains ``model`` on all devices, or goes on where a run in ``workdir`` stopped, bit for bit.

    Args:
      model: of ``create_model``.
      batches: what is in batch s must depend on s alone.
      workdir: gets ``checkpoints/``, ``metrics.jsonl`` and ``tensorboard/``.
      options: steps, batch size, cadences.
      optimizer: rate, groups, schedule.
      loss: from a training pass and labels ``[B]`` to the named terms.
      batch_shapes: shapes and dtypes of a global batch.
      config: all that defines the run, of what JSON can hold; saved beside the checkpoints.
      free_keys: dotted keys of ``config`` that may change when a run goes on.
      evaluate: measures on held-out data.
      initialize: what a new run starts from, e.g. ``initialize_from``; not called when one goes on.

    Returns:
      Where it stands. SIGTERM and SIGINT save a checkpoint and return early.

    Raises:
      UserError: a batch that the devices do not divide, shapes or memory that do not fit, a workdir of another run.
      TrainingDivergedError: a loss or gradient is not finite; such a state is never saved.
      ProcessLostError: another process of the run has died.
    """
    check_batch_size(options.batch_size, jax.device_count(), options.accumulate)
    step, create = make_step_and_state(model, options, optimizer, loss)
    # Shapes first: a configuration that does not fit fails here, before data are read and memory is taken.
    shapes = jax.eval_shape(create)
    check_memory(step.lower(shapes, batch_shapes), jax.local_devices()[0])
    with Checkpoints(Path(workdir) / FOLDER, config, free_keys=free_keys) as checkpoints:
        # The order of things: resume from the newest readable checkpoint of this workdir; else start from what
        # ``initialize`` takes from another run; else fresh.
        state = checkpoints.restore_latest(shapes)
        require_same(
            0 if state is None else int(state.step),
            f"the processes find different checkpoints in {workdir}: it has to lie on storage that all of them share",
        )
        feed = batches(0 if state is None else int(state.step))
        if state is None:
            state = jax.device_get(create())
            state = state.replace(**initialize(state.variables)) if initialize else state
        else:
            log.info("resuming from step %d of %s", int(state.step), workdir)
        peak = peak_flops(options.peak_tflops, jax.devices()[0].device_kind)
        peak_step_sec = peak and 2 * step.count_macs(shapes, batch_shapes) / peak
        meter = Meter(options.batch_size, peak_step_sec)
        return _Run(step, checkpoints, options, evaluate, workdir, meter).go(state, feed)


def make_step_and_state(
    model: VideoModel,
    options: TrainOptions,
    optimizer: OptimizerOptions,
    loss: LossFunction,
    devices: Sequence[jax.Device] | None = None,
) -> tuple[TrainStep, Callable[[], TrainState]]:
    """The training step of a run, and what makes its first state. ``devices``: to run on; None: all."""
    params = jax.eval_shape(partial(init_variables, model), run_keys(options.seed)[0])["params"]
    sgd = make_optimizer(optimizer, params, num_steps=options.num_steps, batch_size=options.batch_size)
    step = make_train_step(
        model,
        sgd,
        loss,
        seed=options.seed,
        parallel=options.parallel,
        accumulate=options.accumulate,
        skip_not_finite=options.on_nan == "skip",
        devices=devices,
    )
    # It runs once: LLVM at its best would take longer over it than all else before the first step.
    fast = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    on_cpu = jax.default_backend() == "cpu"
    create = jax.jit(
        partial(create_state, model, sgd.transform, options.seed), compiler_options=fast if on_cpu else None
    )
    return step, create


def prefetch(
    batches: Iterable[Mapping[str, np.ndarray]], put: Callable[[Mapping[str, np.ndarray]], VideoBatch]
) -> Iterator[VideoBatch]:
    """Puts each batch on the devices while the one before it is used."""
    ahead: deque[VideoBatch] = deque()
    for batch in batches:
        ahead.append(put(batch))
        if len(ahead) > 1:
            yield ahead.popleft()
    yield from ahead


class _Run:
    """One call of ``train``, from a state on the host to the end."""

    def __init__(
        self,
        step: TrainStep,
        checkpoints: Checkpoints,
        options: TrainOptions,
        evaluate: Evaluate | None,
        workdir: str | os.PathLike[str],
        meter: Meter,
    ) -> None:
        self.step, self.checkpoints, self.options, self.evaluate = step, checkpoints, options, evaluate
        self.workdir, self.meter = workdir, meter
        self.signals = StopSignals()
        self.metrics: dict[str, float] = {}
        self.pending: list[tuple[int, Mapping[str, Array]]] = []
        """Scalars that are still on the devices, with their step."""
        self.window: list[dict[str, float]] = []
        """Scalars fetched since the last row."""
        self.skipped = 0
        """Steps since the last row whose update was dropped."""

    def go(self, state: TrainState, batches: Iterable[Mapping[str, np.ndarray]]) -> TrainResult:
        start, num_steps = int(state.step), self.options.num_steps
        if start >= num_steps:
            log.info("nothing to do: %s has all %d steps", self.workdir, num_steps)
            return TrainResult(start, self.checkpoints.metrics(start))
        with ExitStack() as stack:
            self.writer = MetricWriter(self.workdir, start)
            stack.callback(self.writer.close)
            self.view = stack.enter_context(ProgressView(num_steps, self.options.batch_size, start))
            stack.enter_context(self.signals)
            self.profiler = stack.enter_context(
                Profiler(self.options.profile, Path(self.workdir) / "profile")
            )
            return self._steps(self.step.put_state(state), start, batches)

    def _steps(
        self, state: TrainState, start: int, batches: Iterable[Mapping[str, np.ndarray]]
    ) -> TrainResult:
        feed = prefetch(batches, self.step.put_batch)
        for done in range(start + 1, self.options.num_steps + 1):
            self.profiler.before(done)
            with self.meter.waiting():
                batch = next(feed)
            # Fails whenever data move between host and device unasked.
            with jax.transfer_guard("disallow"):
                state, scalars = self.step.run(state, batch)
            self.pending.append((done, scalars))
            # One step ahead of the devices, not more, or batches would pile up on them.
            jax.block_until_ready(self.pending[-2:][0][1])
            self.signals.share()
            self._count(done, start)
            # A signal that comes while nothing is saved waits for the next step, which is.
            if self._after(done, state) and self.signals.signal is not None:
                break
        return TrainResult(done, self.metrics, self.signals.signal)

    def _count(self, done: int, start: int) -> None:
        self.view.step(done)
        if done == start + 1:
            self.meter.restart()  # that step was compiled
        else:
            self.meter.step()

    def _after(self, done: int, state: TrainState) -> bool:
        """Whatever is due after step ``done``: a row of figures, an evaluation, a checkpoint. Whether it saved."""
        stopping = self.signals.signal is not None
        if self._due(done, self.options.log_every):
            self._log_row(done)
        evaluating = self.evaluate is not None and self._due(done, self.options.eval_every) and not stopping
        if not (evaluating or stopping or self._due(done, self.options.checkpoint_every)):
            return False
        host = self._finite_state(done, state)
        metrics = self._evaluate(done, host) if evaluating else {}
        self._save(done, host, metrics)
        self.meter.restart()
        return True

    def _due(self, done: int, every: int) -> bool:
        return done == self.options.num_steps or (every > 0 and done % every == 0)

    def _log_row(self, done: int) -> None:
        self._fetch()
        names = self.window[0] if self.window else ()
        row = {name: math.fsum(r[name] for r in self.window) / len(self.window) for name in names}
        row |= self.meter.read() | peak_memory_gib()
        if self.options.on_nan == "skip":
            row["skipped"] = self.skipped
        self.writer.write("train", done, row)
        if self.window:
            self.view.figures(done, row)
        self.window.clear()
        self.skipped = 0

    def _fetch(self) -> None:
        """Moves pending scalars to the host, and stops at the first step that is not finite unless it was skipped."""
        for step, scalars in self.pending:
            row = fetch_scalars(scalars)
            bad = describe_not_finite(row)
            if row.pop("skipped", 0):
                self.skipped += 1
                self.view.note(
                    f"step {step} skipped, its update dropped: {bad or 'parameters would overflow'}"
                )
            elif bad:
                self._diverged(step, bad)
            else:
                self.window.append(row)
        self.pending.clear()

    def _finite_state(self, done: int, state: TrainState) -> TrainState:
        self._fetch()
        host = self.step.get_state(state)
        for path, leaf in jax.tree_util.tree_leaves_with_path(host):
            if not np.isfinite(leaf).all():
                self._diverged(
                    done, f"{jax.tree_util.keystr(path, simple=True, separator='/')} is not finite"
                )
        return host

    def _diverged(self, step: int, what: str) -> None:
        saved = self.checkpoints.steps
        good = str(self.checkpoints.folder / str(saved[-1])) if saved else "none yet"
        raise TrainingDivergedError(
            f"training diverged at step {step}: {what}; last good checkpoint: {good}; "
            "lower optimizer.lr or optimizer.clip_norm and train in another workdir, or go on from there with "
            "train.on_nan=skip, which drops such updates"
        )

    def _evaluate(self, done: int, host: TrainState) -> dict[str, float]:
        """The numbers; none if a signal came meanwhile."""
        assert self.evaluate is not None
        found: Mapping[str, float | np.ndarray] = {}
        with self.view.doing("evaluating") as count, suppress(StopRequestedError):

            def progress(videos: int) -> None:
                count(videos)
                self.signals.check()

            found = self.evaluate(host.variables, progress)
        pictures = {name: value for name, value in found.items() if isinstance(value, np.ndarray)}
        metrics = {name: float(value) for name, value in found.items() if name not in pictures}
        if metrics:
            self.metrics = metrics
            self.writer.write("eval", done, metrics)
            self.writer.images("eval", done, pictures)
            figures = "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())
            self.view.note(f"step {done} evaluation  {figures}")
        return metrics

    def _save(self, done: int, host: TrainState, metrics: dict[str, float]) -> None:
        best = self.options.best_metric
        self.checkpoints.save(done, host, metrics=metrics, score=metrics.get(best))
        if metrics and best not in metrics:
            raise UserError(
                f"no metric {best!r} to choose the best by: evaluation yields {', '.join(metrics)}"
            )

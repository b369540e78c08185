"""The training loop: resume or start, then save, evaluate, step and log until the end, a signal or divergence."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import optax

from adafocus_jax.checkpoint import FOLDER, Checkpoints
from adafocus_jax.checkpoint.manager import move_damaged_run
from adafocus_jax.checkpoint.read import CONFIG_FILE
from adafocus_jax.errors import UserError
from adafocus_jax.models import VideoModel, variable_shapes
from adafocus_jax.train.feed import Feed
from adafocus_jax.train.figures import Figures
from adafocus_jax.train.interrupt import StopRequestedError, StopSignals
from adafocus_jax.train.lock import WorkdirLock
from adafocus_jax.train.logger import METRICS_FILE, TENSORBOARD_FOLDER, Meter, MetricWriter, ProgressView
from adafocus_jax.train.memory import check_memory
from adafocus_jax.train.optimizer import OptimizerOptions, make_optimizer, plain_optimizer
from adafocus_jax.train.processes import naming_lost_processes, require_same
from adafocus_jax.train.profiler import Profiler
from adafocus_jax.train.starts import STARTS_FOLDER, describe_start, write_start
from adafocus_jax.train.state import TrainState, create_state
from adafocus_jax.train.step import LossFunction, Parallel, TrainStep, check_batch_size, make_train_step
from adafocus_jax.train.utilization import peak_flops, peak_memory_gib
from adafocus_jax.types import Array, VideoBatch
from adafocus_jax.watchdog import Watchdog

log = logging.getLogger(__name__)

Batches = Callable[[int], Iterable[Mapping[str, np.ndarray]]]
"""From the first step wanted to the batches of this process from there on, fields of ``VideoBatch``."""
Evaluate = Callable[[dict[str, Any], Callable[[int], None]], Mapping[str, float | np.ndarray]]
"""From ``{"params", "batch_stats"}`` on the host to named numbers, and pictures as RGB uint8 ``[H, W, 3]``. Calls its
second argument after each batch, in all processes equally often, with the number of videos: a signal ends it there."""
Initialize = Callable[[dict[str, Any]], dict[str, Any]]
"""From fresh ``{"params", "batch_stats"}`` on the host to those to start from."""


@dataclass(frozen=True)
class Evaluator:
    """Something to measure on held-out data while training."""

    name: str
    """Of its rows in ``metrics.jsonl``, under ``split``."""
    function: Evaluate
    """Its numbers are saved with the checkpoint; no two evaluators may give one the same name."""
    every: int = 0
    """Steps between evaluations; there is always one at the end. 0: only there."""


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
    checkpoint_every: int = 0
    """Steps between checkpoints; there is always one at the end and with every evaluation. 0: only there."""
    best_metric: str = "top1"
    """The number of an evaluation by which the best checkpoint is chosen, higher is better."""
    peak_tflops: float = 0.0
    """What one device can do, for the share of it that is used; 0: as known for its kind."""
    profile: tuple[int, int] | None = None
    """First step and number of steps, counted in the run, of a ``jax.profiler`` trace in ``WORKDIR/profile``."""

    def is_due(self, step: int, every: int) -> bool:
        """Whether what happens every so many steps (0: never), and at the end, happens after ``step`` updates."""
        return step == self.num_steps or (step > 0 and every > 0 and step % every == 0)


@dataclass(frozen=True)
class TrainResult:
    """Where training stands when it returns."""

    step: int
    metrics: dict[str, float] = field(default_factory=dict)
    """Of the last evaluation; empty if there was none."""
    signal: int | None = None
    """The signal that stopped it; None when all steps are done."""


@naming_lost_processes()
def train(
    model: VideoModel,
    batches: Batches,
    *,
    workdir: str | os.PathLike[str],
    options: TrainOptions,
    optimizer: OptimizerOptions | optax.GradientTransformation,
    loss: LossFunction,
    batch_shapes: VideoBatch,
    config: Mapping[str, Any],
    free_keys: Collection[str] = (),
    complete: Callable[[Mapping[str, Any]], Mapping[str, Any]] = dict,
    evaluators: Sequence[Evaluator] = (),
    initialize: Initialize | None = None,
    start_over: bool = False,
    about: Mapping[str, Any] | None = None,
) -> TrainResult:
    """Trains ``model`` on all devices, or resumes the run in ``workdir``, bit for bit.

    Args:
      model: of ``create_model``.
      batches: what is in batch s must depend on s alone.
      workdir: gets ``checkpoints/``, ``metrics.jsonl``, ``tensorboard/`` and, at every start, a file in ``starts/``.
      options: steps, batch size, cadences.
      optimizer: rate, groups, schedule; or any transformation of optax, used as it is.
      loss: from a training pass and labels ``[B]`` to the loss of each video.
      batch_shapes: shapes and dtypes of a global batch.
      config: all that defines the run, of what JSON can hold; saved beside the checkpoints.
      free_keys: dotted keys of ``config`` that may change when a run is resumed.
      complete: gives a stored configuration the keys that versions after its own added.
      evaluators: measure on held-out data.
      initialize: what a new run starts from, e.g. ``initialize_from``; not called when one is resumed.
      start_over: where every checkpoint in ``workdir`` is damaged, move that run aside and begin a new one.
      about: what else ``starts/`` is to tell, such as which data are read.

    Returns:
      Where it stands. SIGTERM and SIGINT save a checkpoint and return early.

    Raises:
      UserError: a batch that the devices do not divide, shapes or memory that do not fit, a workdir of another run, or
        one in which another process trains.
      TrainingDivergedError: a loss or gradient is not finite; such a state is never saved.
      ProcessLostError: another process of the run has died.
    """
    check_batch_size(options.batch_size, jax.device_count(), options.accumulate)
    step, create = make_step_and_state(model, options, optimizer, loss)
    # Shapes first: a configuration that does not fit fails here, before data are read and memory is taken.
    shapes = jax.eval_shape(create)
    check_memory(step.lower(shapes, batch_shapes), jax.local_devices()[0])

    with ExitStack() as stack:
        signals = stack.enter_context(StopSignals())
        watchdog = stack.enter_context(Watchdog())
        lock = stack.enter_context(WorkdirLock(workdir)) if jax.process_index() == 0 else None
        # Resume from the newest readable checkpoint of this workdir; else start from what ``initialize`` takes from
        # another run; else fresh.
        if start_over:
            move_damaged_run(Path(workdir), [FOLDER, METRICS_FILE, TENSORBOARD_FOLDER, STARTS_FOLDER])
        checkpoints = stack.enter_context(
            Checkpoints(Path(workdir) / FOLDER, config, free_keys=free_keys, complete=complete)
        )
        restored = checkpoints.restore_latest(shapes)
        start = 0 if restored is None else int(restored.step)
        require_same(
            start,
            f"the processes find different checkpoints in {workdir}: it has to lie on storage that all of them share",
        )
        metrics = checkpoints.metrics(start)
        if start > options.num_steps or (start == options.num_steps and (metrics or not evaluators)):
            log.info("nothing to do: %s has all %d steps", workdir, options.num_steps)
            return TrainResult(start, metrics)
        if lock is not None:
            told = {"step": start, "seed": options.seed, "config": f"{FOLDER}/{CONFIG_FILE}", **(about or {})}
            write_start(workdir, describe_start() | told)
        feed = Feed(batches(start), step.put_batch)
        if restored is None:
            fresh = jax.device_get(create())
            restored = fresh.replace(**initialize(fresh.variables)) if initialize else fresh
        else:
            log.info("resuming from step %d of %s", start, workdir)
        state = step.put_state(restored)

        peak = peak_flops(options.peak_tflops, jax.devices()[0].device_kind)
        meter = Meter(options.batch_size, peak and 2 * step.count_macs(shapes, batch_shapes) / peak)
        writer = MetricWriter(workdir, start, evaluated=bool(metrics))
        stack.callback(writer.close)
        view = stack.enter_context(ProgressView(options.num_steps, options.batch_size, start))
        figures = Figures(checkpoints, view.note)
        profiler = stack.enter_context(Profiler(options.profile, Path(workdir) / "profile"))
        previous: Mapping[str, Array] = {}

        for done in range(start, options.num_steps + 1):
            # Save before evaluating: an evaluation that fails loses nothing, and one that was cut short is made up for
            # when the run is resumed.
            stopping = signals.signal is not None or signals.data_failed
            evaluated = done == start and bool(metrics)
            due = [e for e in evaluators if options.is_due(done, e.every) and not (stopping or evaluated)]
            saving = bool(stopping or due or options.is_due(done, options.checkpoint_every))
            if saving:
                host = figures.finite(done, step.get_state(state))
                if lock is not None:
                    lock.check()
                checkpoints.save(done, host)
                found = _evaluate(due, host.variables, view, signals, watchdog)
                if found:
                    metrics = _record(done, found, checkpoints, writer, view, options.best_metric)
                    _check_best_metric(options.best_metric, metrics, all_due=len(due) == len(evaluators))
                meter.restart()
            # A signal that came after the look above waits for the next step, which is saved.
            if done == options.num_steps or (saving and signals.signal is not None):
                break

            # Step.
            profiler.before(done + 1)
            if signals.data_failed and not feed.failed:
                raise UserError(
                    f"another process could not read its data, see what it said: step {done} is saved"
                )
            with meter.waiting(), watchdog.waiting_for("the next batch of videos"):
                batch = next(feed)
            signals.send(data_failed=feed.failed)
            with watchdog.waiting_for("the devices, and the other processes of the run"):
                with jax.transfer_guard(
                    "disallow"
                ):  # fails whenever data move between host and device unasked
                    state, scalars = step.run(state, batch)
                # One step ahead of the devices, not more, or batches would pile up on them.
                jax.block_until_ready(previous or scalars)
                signals.receive()
            previous = scalars

            # Log.
            figures.add(done + 1, scalars)
            view.step(done + 1)
            if (
                done == start
            ):  # that step was compiled, which a signal ends at once: there was nothing to save
                meter.restart()
                signals.listen()
            else:
                meter.step()
            if options.is_due(done + 1, options.log_every):
                row = figures.means() | meter.read() | peak_memory_gib()
                if options.on_nan == "skip":
                    row["skipped"] = figures.take_skipped()
                writer.write("train", done + 1, row)
                if "loss/total" in row:  # else every update was dropped
                    view.figures(done + 1, row)
        return TrainResult(done, metrics, signals.signal)


def make_step_and_state(
    model: VideoModel,
    options: TrainOptions,
    optimizer: OptimizerOptions | optax.GradientTransformation,
    loss: LossFunction,
    devices: Sequence[jax.Device] | None = None,
) -> tuple[TrainStep, Callable[[], TrainState]]:
    """The training step of a run, and what makes its first state. ``devices``: to run on; None: all."""
    params = variable_shapes(model)["params"]
    if isinstance(optimizer, OptimizerOptions):
        made = make_optimizer(optimizer, params, num_steps=options.num_steps, batch_size=options.batch_size)
    else:
        made = plain_optimizer(optimizer, params)
    step = make_train_step(
        model,
        made,
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
        partial(create_state, model, made.transform, options.seed), compiler_options=fast if on_cpu else None
    )
    return step, create


def _evaluate(
    due: Sequence[Evaluator],
    variables: dict[str, Any],
    view: ProgressView,
    signals: StopSignals,
    watchdog: Watchdog,
) -> dict[str, Mapping[str, float | np.ndarray]]:
    """What each evaluator found, by its name; nothing if a signal came meanwhile."""
    found, awaited = {}, "the next batch of the evaluation"
    for evaluator in due:
        with (
            view.doing("evaluating") as count,
            suppress(StopRequestedError),
            watchdog.waiting_for(awaited),
        ):

            def progress(videos: int, count: Callable[[int], None] = count) -> None:
                count(videos)
                signals.check()
                watchdog.expect(awaited)

            found[evaluator.name] = evaluator.function(variables, progress)
    return found if len(found) == len(due) else {}


def _record(
    step: int,
    found: Mapping[str, Mapping[str, float | np.ndarray]],
    checkpoints: Checkpoints,
    writer: MetricWriter,
    view: ProgressView,
    best_metric: str,
) -> dict[str, float]:
    """Writes what was found to the log and beside the checkpoint, and returns the numbers."""
    metrics: dict[str, float] = {}
    for name, values in found.items():
        pictures = {key: value for key, value in values.items() if isinstance(value, np.ndarray)}
        numbers = {key: float(value) for key, value in values.items() if key not in pictures}
        if twice := sorted(metrics.keys() & numbers.keys()):
            raise UserError(f"evaluator {name!r} yields {twice[0]!r}, as another does: give it another name")
        metrics |= numbers
        writer.write(name, step, numbers)
        writer.images(name, step, pictures)
        shown = "  ".join(f"{key} {value:.4g}" for key, value in numbers.items())
        view.note(f"step {step} {'evaluation' if name == 'eval' else name}  {shown}")
    checkpoints.record(step, metrics, score=metrics.get(best_metric))
    return metrics


def _check_best_metric(best: str, metrics: Mapping[str, float], all_due: bool) -> None:
    if all_due and best not in metrics:
        raise UserError(f"no metric {best!r} to choose the best by: evaluation yields {', '.join(metrics)}")

"""The logs of a run: ``metrics.jsonl`` and TensorBoard events on disk, progress on the terminal."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path

import jax
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from adafocus_jax.data.records.schema import encode_frame
from adafocus_jax.io import write_bytes
from adafocus_jax.train.events import EventWriter, Summary

log = logging.getLogger(__name__)

_NOTICE_SEC = 30.0
METRICS_FILE = "metrics.jsonl"
TENSORBOARD_FOLDER = "tensorboard"


class MetricWriter:
    """Appends rows to ``WORKDIR/metrics.jsonl`` and scalars to ``WORKDIR/tensorboard``; process 0 alone writes.

    A row is ``{"step": 20, "split": "train", "loss/total": 1.5, …}``. A write error does not end training: rows are
    kept until they can be written.
    """

    def __init__(self, workdir: str | os.PathLike[str], start_step: int, *, evaluated: bool = True) -> None:
        """Resumes after ``start_step``: rows of later steps, of an interrupted run, are dropped, as they come again.

        So are rows of evaluations at ``start_step`` itself, unless its evaluation was completed (``evaluated``).
        """
        self._writes = jax.process_index() == 0
        self._unwritten: list[str] = []
        if self._writes:
            self._path = Path(workdir) / METRICS_FILE
            self._path.parent.mkdir(parents=True, exist_ok=True)
            _drop_later_rows(self._path, start_step, evaluated)
            self._board = EventWriter(Path(workdir) / TENSORBOARD_FOLDER, start_step)

    def write(self, split: str, step: int, values: Mapping[str, float]) -> None:
        """One row of finite numbers of ``split`` (``train``, or an evaluator's name) after ``step`` updates."""
        if self._writes:
            self._unwritten.append(json.dumps({"step": step, "split": split, **values}) + "\n")
            self._append()
            self._board.add(
                step,
                [Summary.Value(tag=f"{split}/{name}", simple_value=value) for name, value in values.items()],
            )

    def images(self, split: str, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Pictures by name, RGB uint8 ``[H, W, 3]``, for TensorBoard alone."""
        if self._writes:
            for name, image in images.items():
                # Not tensorboardX's PNGs of video frames, which would soon outgrow the checkpoints.
                drawn = Summary.Image(height=image.shape[0], width=image.shape[1], colorspace=3)
                drawn.encoded_image_string = encode_frame(image, quality=90)
                self._board.add(step, [Summary.Value(tag=f"{split}/{name}", image=drawn)])

    def close(self) -> None:
        """Writes what is buffered."""
        if self._writes:
            self._append()
            if self._unwritten:
                log.warning(
                    "%d rows of figures are lost: %s cannot be written", len(self._unwritten), self._path
                )
            self._board.close()

    def _append(self) -> None:
        if not self._unwritten:
            return
        try:
            with open(self._path, "ab") as file:
                end = file.tell()
                try:
                    file.write("".join(self._unwritten).encode())
                    file.flush()
                except OSError:
                    file.truncate(end)  # else the next row would follow upon half of this one
                    raise
        except OSError as error:
            if len(self._unwritten) == 1:
                log.warning("%s cannot be written, training continues: %s", self._path, error.strerror)
            return
        self._unwritten.clear()


def _drop_later_rows(path: Path, start_step: int, evaluated: bool) -> None:
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    kept = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            step, split = int(row["step"]), str(row["split"])
        except (ValueError, KeyError, TypeError):
            if number < len(lines) or line.endswith(b"\n"):  # else it was killed while it wrote
                log.warning("%s: line %d is not a row of figures: dropped", path, number)
            continue
        if line.endswith(b"\n") and (
            step < start_step or (step == start_step and (evaluated or split == "train"))
        ):
            kept.append(line)
    if kept != lines:
        write_bytes(path, b"".join(kept))


class Meter:
    """Examples per second, and the share of time that the loop waited for data, since ``restart``."""

    def __init__(self, batch_size: int, peak_step_sec: float | None = None) -> None:
        """``peak_step_sec``: what a step would take at the devices' peak, to tell ``flop_utilization`` (0…1)."""
        self._batch_size, self._peak_step_sec = batch_size, peak_step_sec
        self.restart()

    def restart(self) -> None:
        """Leaves out what was before: compilation, evaluation."""
        self._began, self._waited, self._steps = time.perf_counter(), 0.0, 0

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Counts the block as waiting for data."""
        began = time.perf_counter()
        yield
        self._waited += time.perf_counter() - began

    def step(self) -> None:
        """Counts a step."""
        self._steps += 1

    def read(self) -> dict[str, float]:
        """``examples_per_sec``, ``data_wait_frac`` (0…1), ``flop_utilization`` where the peak is known. Restarts.

        Nothing before a step was counted.
        """
        elapsed = max(time.perf_counter() - self._began, 1e-9)
        figures = {}
        if self._steps:
            rate = self._steps / elapsed
            figures = {"examples_per_sec": rate * self._batch_size, "data_wait_frac": self._waited / elapsed}
            if self._peak_step_sec is not None:
                figures["flop_utilization"] = rate * self._peak_step_sec
        self.restart()
        return figures


class ProgressView:
    """A line whenever there are new figures, from process 0; on a terminal also a bar that stays below them."""

    def __init__(self, num_steps: int, batch_size: int, start_step: int) -> None:
        self._num_steps, self._batch_size = num_steps, batch_size
        console = Console(stderr=True)
        self._live = console.is_terminal and jax.process_index() == 0
        columns = ("training", BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
        self._bar = Progress(*columns, console=console, disable=not self._live)
        self._task = self._bar.add_task("compiling", total=num_steps, completed=start_step)

    def __enter__(self) -> ProgressView:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def step(self, step: int) -> None:
        """``step`` updates are done."""
        self._bar.update(self._task, completed=step)

    def figures(self, step: int, values: Mapping[str, float]) -> None:
        """New means over the last steps."""
        pace = describe_pace(values, (self._num_steps - step) * self._batch_size)
        self._bar.update(self._task, description=pace)
        self.note(f"step {step}/{self._num_steps}  {describe_losses(values)}  {pace}".rstrip())

    @contextlib.contextmanager
    def doing(self, what: str) -> Iterator[Callable[[int], None]]:
        """Says that something else than training takes the time; what it yields counts this process's videos."""
        before = self._bar.tasks[0].description
        self._bar.update(self._task, description=what)
        total, said = 0, time.monotonic()

        def count(videos: int) -> None:
            nonlocal total, said
            total += videos
            self._bar.update(self._task, description=f"{what}, {total} videos")
            if not self._live and time.monotonic() - said > _NOTICE_SEC:
                self.note(f"{what}, {total} videos so far")
                said = time.monotonic()

        yield count
        self._bar.update(self._task, description=before)

    def note(self, text: str) -> None:
        """A line that stays."""
        if self._live:
            self._bar.console.print(text, highlight=False, soft_wrap=True)
        elif jax.process_index() == 0:
            log.info("%s", text)


def describe_losses(values: Mapping[str, float]) -> str:
    """Loss, its terms that are not 0, and accuracy.

    >>> describe_losses({"loss/total": 2.5, "loss/exits": 1.25, "loss/focus": 0.0, "top1": 50.0})
    'loss 2.5 (exits 1.25)  top-1 50%'
    """
    terms = [
        f"{name.removeprefix('loss/')} {value:.3g}"
        for name, value in values.items()
        if name.startswith("loss/") and name != "loss/total" and value
    ]
    return f"loss {values['loss/total']:.4g} ({', '.join(terms)})  top-1 {values['top1']:.0f}%"


def describe_not_finite(values: Mapping[str, float]) -> str:
    """What is not finite, the terms of the loss before what they spoil; empty where all is finite.

    >>> describe_not_finite({"loss/total": math.nan, "loss/focus": math.inf, "loss/exits": 1.5, "grad_norm": math.nan})
    'loss/focus inf, loss/total nan, grad_norm nan'
    """
    bad = [name for name, value in values.items() if not math.isfinite(value)]
    bad.sort(key=lambda name: (not name.startswith("loss/"), name == "loss/total"))
    return ", ".join(f"{name} {values[name]:g}" for name in bad)


def describe_pace(values: Mapping[str, float], examples_left: int) -> str:
    """Speed and the time that the rest will take; empty where nothing was measured.

    >>> describe_pace({"examples_per_sec": 100.0, "data_wait_frac": 0.02}, examples_left=12000)
    '100 videos/s  data wait 2%  0:02:00 left'
    """
    if not (rate := values.get("examples_per_sec")):
        return ""
    left = timedelta(seconds=round(examples_left / rate))
    used = f"  {values['flop_utilization']:.0%} of peak" if "flop_utilization" in values else ""
    return f"{rate:.3g} videos/s  data wait {values['data_wait_frac']:.0%}{used}  {left} left"

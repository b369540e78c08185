"""Predictions as plain values: entries of JSON and JSON lines, and a line of text for people."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
from collections.abc import Callable, Iterator
from typing import Any

from adafocus_jax.errors import UserError, remedy
from adafocus_jax.io import StrPath
from adafocus_jax.types import VideoPrediction


def as_entry(prediction: VideoPrediction, top: int = 5) -> dict[str, Any]:
    """One prediction as plain values that JSON takes.

    Args:
      prediction: of ``Predictor``.
      top: number of classes.

    Returns:
      ``video``, of a window also its ``start`` and ``end`` in seconds; then ``error``, or ``top`` (class and
      probability at the exit that was taken), ``exit``, ``gflops``, and of each focus frame its number in the video
      (``frames``), its time (``seconds``) and its box in pixels of the square frame that the model sees (``boxes``:
      top, left, height, width); and ``ms``, from the moment its pixels were asked for, waiting for others included.
    """
    place = dict(zip(("start", "end"), prediction.segment_sec or (), strict=False))
    if prediction.error is not None:
        return {"video": prediction.name, **place, "error": prediction.error}
    return {
        "video": prediction.name,
        **place,
        "top": [{"class": name, "probability": score} for name, score in prediction.top(top)],
        "exit": prediction.exit,
        "gflops": prediction.gflops,
        "frames": prediction.frame_numbers.tolist(),
        "seconds": prediction.times_sec.tolist(),
        "boxes": prediction.boxes.tolist(),
        "ms": None if math.isnan(prediction.seconds) else 1000 * prediction.seconds,
    }


def as_text(prediction: VideoPrediction, top: int = 5) -> str:
    """One prediction in a line: name, classes with probabilities in percent, exit and cost; or what is wrong.

    >>> as_text(VideoPrediction("a.mp4", (), error="no such video: a.mp4"))
    'no such video: a.mp4'
    """
    if (error := prediction.error) is not None:
        return error if prediction.name in error else f"{prediction.name}: {error}"
    classes = ", ".join(f"{name} {score:.0%}" for name, score in prediction.top(top))
    when = ""
    if prediction.segment_sec is not None:
        start, end = prediction.segment_sec
        when = f" {start:.2f} to {end:.2f} s"
    place = f"exit {prediction.exit + 1} of {len(prediction.exit_gflops)}, {prediction.gflops:.3g} GFLOPs"
    return f"{prediction.name}{when}: {classes} ({place})"


@contextlib.contextmanager
def json_lines(target: StrPath | None) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A function that writes an entry as a line of JSON, at once: to a file, to standard output (``-``), or nowhere.

    Raises:
      UserError: the file cannot be written.
    """
    with _opened(target) as write:
        yield lambda entry: write(json.dumps(entry) + "\n")


@contextlib.contextmanager
def csv_rows(target: StrPath | None, top: int = 5) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A function that writes an entry as a row of CSV, at once, as ``json_lines`` does.

    Columns: ``video,start,end,exit,gflops,class_1,probability_1,…,error``, classes up to ``top``; what an entry does
    not have is empty.
    """
    classes = [f"{kind}_{k}" for k in range(1, top + 1) for kind in ("class", "probability")]
    names = ["video", "start", "end", "exit", "gflops", *classes, "error"]
    with _opened(target) as write:

        def write_row(entry: dict[str, Any]) -> None:
            for k, score in enumerate(entry.get("top", ())[:top], 1):
                entry = entry | {f"{kind}_{k}": value for kind, value in score.items()}
            row = io.StringIO()
            csv.DictWriter(row, names, extrasaction="ignore", lineterminator="\n").writerow(entry)
            write(row.getvalue())

        write_row({name: name for name in names})
        yield write_row


@contextlib.contextmanager
def _opened(target: StrPath | None) -> Iterator[Callable[[str], None]]:
    """A function that writes text, at once; what was written stays, whatever comes after."""
    if target is None:
        yield lambda text: None
        return
    if target == "-":
        yield lambda text: print(text, end="", flush=True)
        return
    with contextlib.ExitStack() as stack:
        with _names(target):
            # Without a buffer: after a failure it would be written again when the file is closed.
            file = stack.enter_context(open(target, "wb", buffering=0))

        def write(text: str) -> None:
            left = memoryview(text.encode())
            with _names(target):
                while left:
                    left = left[file.write(left) :]

        yield write


@contextlib.contextmanager
def _names(target: StrPath) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write results to {target}: {error.strerror}: {remedy(error) or 'give another path'}"
        ) from error

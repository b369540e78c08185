"""Predictions as plain values: entries of JSON and JSON lines, and a line of text for people."""

from __future__ import annotations

import contextlib
import csv
import json
import math
import sys
from collections.abc import Callable, Iterator
from typing import Any, TextIO

from adafocus_jax.errors import UserError
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
    with _opened(target) as file:
        yield lambda entry: print(json.dumps(entry), file=file, flush=True) if file else None


@contextlib.contextmanager
def csv_rows(target: StrPath | None, top: int = 5) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A function that writes an entry as a row of CSV, at once, as ``json_lines`` does.

    Columns: ``video,start,end,exit,gflops,class_1,probability_1,…,error``, classes up to ``top``; what an entry does
    not have is empty.
    """
    classes = [f"{kind}_{k}" for k in range(1, top + 1) for kind in ("class", "probability")]
    names = ["video", "start", "end", "exit", "gflops", *classes, "error"]
    with _opened(target) as file:
        if file is None:
            yield lambda entry: None
            return
        writer = csv.DictWriter(file, names, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()

        def write(entry: dict[str, Any]) -> None:
            for k, score in enumerate(entry.get("top", ())[:top], 1):
                entry = entry | {f"{kind}_{k}": value for kind, value in score.items()}
            writer.writerow(entry)
            file.flush()

        yield write


@contextlib.contextmanager
def _opened(target: StrPath | None) -> Iterator[TextIO | None]:
    if target is None or target == "-":
        yield sys.stdout if target else None
        return
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(open(target, "w", encoding="utf-8", newline=""))
        except OSError as error:
            raise UserError(f"cannot write results to {target}: {error.strerror}") from error
        yield file

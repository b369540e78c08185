"""Predictions as plain values: entries of JSON and JSON lines, and a line of text for people."""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

from adafocus_jax.errors import UserError
from adafocus_jax.types import VideoPrediction


def as_entry(prediction: VideoPrediction, top: int = 5) -> dict[str, Any]:
    """One prediction as plain values that JSON takes.

    Args:
      prediction: of ``Predictor``.
      top: number of classes.

    Returns:
      ``video`` and ``error``, or ``video``, ``top`` (class and probability at the exit that was taken), ``exit``,
      ``gflops``, and of each focus frame its number in the video (``frames``), its time (``seconds``) and its box in
      pixels of the square frame that the model sees (``boxes``: top, left, height, width); and ``ms``, from the
      moment its pixels were asked for, waiting for other videos included.
    """
    if prediction.error is not None:
        return {"video": prediction.name, "error": prediction.error}
    return {
        "video": prediction.name,
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
    place = f"exit {prediction.exit + 1} of {len(prediction.exit_gflops)}, {prediction.gflops:.3g} GFLOPs"
    return f"{prediction.name}: {classes} ({place})"


@contextlib.contextmanager
def json_lines(target: str | os.PathLike[str] | None) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A function that writes an entry as a line of JSON, at once: to a file, to standard output (``-``), or nowhere.

    Raises:
      UserError: the file cannot be written.
    """
    with contextlib.ExitStack() as stack:
        file = sys.stdout if target == "-" else None
        if target and target != "-":
            try:
                file = stack.enter_context(open(target, "w", encoding="utf-8"))
            except OSError as error:
                raise UserError(f"cannot write JSON lines to {target}: {error.strerror}") from error
        yield lambda entry: print(json.dumps(entry), file=file, flush=True) if file else None

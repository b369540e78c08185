"""From what was computed of a video to its ``VideoPrediction``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from adafocus_jax.data.batches.clips import ClipSpec
from adafocus_jax.data.batches.single import Clip, read_clip
from adafocus_jax.data.batches.sources import Source
from adafocus_jax.early_exit import ExitPolicy
from adafocus_jax.evaluate.exits import usable_exits
from adafocus_jax.evaluate.predict import Predictions
from adafocus_jax.types import VideoPrediction


def source_predictions(
    source: Source,
    spec: ClipSpec,
    classes: tuple[str, ...],
    predictions: Predictions,
    exit_gflops: np.ndarray,
    policy: ExitPolicy | None = None,
    *,
    count: int | None = None,
    rows: Sequence[int] | None = None,
) -> Iterator[VideoPrediction]:
    """Videos of ``source`` that ``predictions`` hold, with their frames.

    Args:
      source: the videos that were predicted.
      spec: how their clips are cut.
      classes: K class names.
      predictions: of videos of ``source``.
      exit_gflops: ``[E]`` cost of each exit.
      policy: where videos leave; None: all run to the last exit.
      count: how many at most, the first in ``source``.
      rows: or which rows of ``predictions``.

    Yields:
      Predictions whose ``extra`` has the ``true_class``.

    Raises:
      RecordError: a video does not read.
    """
    for row in np.argsort(predictions.index)[:count].tolist() if rows is None else rows:
        video = source[int(predictions.index[row])]
        clip = read_clip(video, spec)
        found = video_prediction(video.name, classes, clip, predictions, row, exit_gflops, policy)
        found.extra["true_class"] = ", ".join(source.classes[label] for label in video.labels)
        yield found


def video_prediction(
    name: str,
    classes: tuple[str, ...],
    clip: Clip,
    predictions: Predictions,
    row: int,
    exit_gflops: np.ndarray,
    policy: ExitPolicy | None = None,
) -> VideoPrediction:
    """Row ``row`` of ``predictions``, with its ``clip``; the other arguments are those of ``source_predictions``."""
    num_exits, num_focus = predictions.exit_logits.shape[1], predictions.frame_indices.shape[1]
    taken = num_exits - 1
    if policy is not None:
        usable = usable_exits(predictions)[row : row + 1]
        taken = num_exits - usable.shape[1] + int(policy.assign(usable)[0])
    seen = focus_frames_seen(taken, num_exits, num_focus)
    return VideoPrediction(
        name=name,
        classes=classes,
        exit=taken,
        exit_logits=predictions.exit_logits[row],
        exit_gflops=exit_gflops,
        frame_weights=predictions.frame_weights[row],
        glance_indices=predictions.glance_indices[row],
        frame_indices=predictions.frame_indices[row, :seen],
        boxes=predictions.boxes[row, :seen],
        candidate_numbers=clip.frame_numbers,
        candidate_times_sec=clip.times_sec,
        frames=clip.frames,
    )


def focus_frames_seen(exit_taken: int, num_exits: int, num_focus: int) -> int:
    """How many of the F focus frames a video that leaves at ``exit_taken`` of E exits was seen in.

    The last F exits follow a focus frame each where there are so many; else the last exit follows them all.

    >>> [focus_frames_seen(taken, num_exits=6, num_focus=2) for taken in range(6)]
    [0, 0, 0, 0, 1, 2]
    >>> [focus_frames_seen(taken, num_exits=2, num_focus=12) for taken in range(2)]
    [0, 12]
    """
    missed = num_exits - 1 - exit_taken
    if num_exits > num_focus:
        return max(num_focus - missed, 0)
    return 0 if missed else num_focus

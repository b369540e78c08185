"""Single videos, from file or record to prediction, with all that the pictures need."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from adafocus_jax.data.batches.clips import ClipSpec
from adafocus_jax.data.batches.single import as_video, read_clip
from adafocus_jax.data.batches.sources import Source
from adafocus_jax.early_exit import ExitPolicy
from adafocus_jax.evaluate.exits import usable_exits
from adafocus_jax.evaluate.predict import PredictFunction, Predictions, predict_split
from adafocus_jax.types import VideoBatch, VideoPrediction


def predict_videos(
    predict: PredictFunction,
    paths: Sequence[str | Path],
    spec: ClipSpec,
    classes: tuple[str, ...],
    exit_gflops: np.ndarray,
    policy: ExitPolicy | None = None,
    *,
    batch_size: int = 1,
) -> Iterator[VideoPrediction]:
    """Predicts videos one after another; each is cut as at test.

    Args:
      predict: of ``make_predict_function``.
      paths: video files.
      spec: how clips are cut: that of the training run.
      classes: K class names.
      exit_gflops: ``[E]`` cost of each exit.
      policy: where videos leave; None leaves ``exit_taken`` empty.
      batch_size: what one call of ``predict`` takes, a multiple of the number of devices; the video fills
        the first place.

    Raises:
      UserError: a file that is not there or does not decode, named.
    """
    for path in paths:
        clip = read_clip(as_video(path), spec)
        frames, glance = (
            None if part is None else np.broadcast_to(part[None], (batch_size, *part.shape))
            for part in (clip.frames, clip.glance)
        )
        first, nowhere = np.arange(batch_size) == 0, np.full((batch_size, 1), -1, np.int32)
        batch = VideoBatch(
            frames=frames, glance=glance, mask=first, index=np.zeros(batch_size, np.int32), labels=nowhere
        )
        found = predict_split(predict, [batch])
        yield video_prediction(str(path), classes, clip.frames, clip.times_sec, found, 0, exit_gflops, policy)


def source_predictions(
    source: Source,
    spec: ClipSpec,
    classes: tuple[str, ...],
    predictions: Predictions,
    exit_gflops: np.ndarray,
    policy: ExitPolicy | None = None,
    *,
    count: int,
) -> Iterator[VideoPrediction]:
    """The ``count`` first videos of ``source`` that ``predictions`` hold; ``extra`` has their ``true_class``.

    Raises:
      RecordError: a video does not read.
    """
    for row in np.argsort(predictions.index)[:count].tolist():
        video = source[int(predictions.index[row])]
        clip = read_clip(video, spec)
        found = video_prediction(
            video.name, classes, clip.frames, clip.times_sec, predictions, row, exit_gflops, policy
        )
        found.extra["true_class"] = ", ".join(source.classes[label] for label in video.labels)
        yield found


def video_prediction(
    name: str,
    classes: tuple[str, ...],
    frames: np.ndarray,
    times_sec: np.ndarray,
    predictions: Predictions,
    row: int,
    exit_gflops: np.ndarray,
    policy: ExitPolicy | None,
) -> VideoPrediction:
    """Row ``row`` of ``predictions`` with its frames ``[N, S, S, 3]`` and their times."""
    taken = None
    if policy is not None:
        usable = usable_exits(predictions)[row : row + 1]
        skipped = predictions.exit_logits.shape[1] - usable.shape[1]
        taken = skipped + int(policy.assign(usable)[0])
    return VideoPrediction(
        name=name,
        classes=classes,
        frames=frames,
        times_sec=times_sec,
        exit_logits=predictions.exit_logits[row],
        frame_weights=predictions.frame_weights[row],
        glance_indices=predictions.glance_indices[row],
        frame_indices=predictions.frame_indices[row],
        boxes=predictions.boxes[row],
        exit_gflops=exit_gflops,
        exit_taken=taken,
    )


def summary(prediction: VideoPrediction, top: int = 5) -> dict[str, Any]:
    """One prediction as plain values: the ``top`` classes with probabilities, frames, boxes and the exit."""
    logits = prediction.exit_logits[-1].astype(np.float64)
    probabilities = np.exp(logits - logits.max())
    probabilities /= probabilities.sum()
    best = np.argsort(-probabilities, kind="stable")[:top]
    return {
        "video": prediction.name,
        "top": [{"class": prediction.classes[k], "probability": float(probabilities[k])} for k in best],
        "focus_times_sec": prediction.times_sec[prediction.frame_indices].tolist(),
        "boxes_px": prediction.boxes.tolist(),
        "exit_taken": prediction.exit_taken,
        "gflops": float(
            prediction.exit_gflops[-1 if prediction.exit_taken is None else prediction.exit_taken]
        ),
    }

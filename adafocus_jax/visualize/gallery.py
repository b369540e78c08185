"""A gallery over a validation set: the most and the least confident videos, and the wrong ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from matplotlib.axes import Axes

from adafocus_jax.data.batches.clips import ClipSpec
from adafocus_jax.data.batches.sources import Source
from adafocus_jax.errors import UserError
from adafocus_jax.evaluate.predict import Predictions
from adafocus_jax.metrics import softmax
from adafocus_jax.predict.videos import source_predictions
from adafocus_jax.types import VideoPrediction
from adafocus_jax.visualize.frames import shown_frames
from adafocus_jax.visualize.style import (
    CHOSEN,
    INK,
    TEXT_PX,
    TRUTH,
    WIDTH_PX,
    cover,
    new_figure,
    rgb,
    shorten,
    to_image,
    write_text,
)

COLUMNS = 5
_MARGIN, _GAP, _LINE = 20, 12, 30
_TILE = (WIDTH_PX - 2 * _MARGIN - (COLUMNS - 1) * _GAP) // COLUMNS


def validation_gallery(
    source: Source, spec: ClipSpec, classes: tuple[str, ...], predictions: Predictions, count: int = COLUMNS
) -> np.ndarray:
    """Draws videos of a validation set, each by the frame that the temporal policy weighs most.

    RGB ``uint8 [H, 960, 3]``.

    Args:
      source: the videos that were predicted.
      spec: how their clips are cut.
      classes: K class names.
      predictions: of videos of ``source``.
      count: videos in each group.

    Raises:
      UserError: the predictions are of other videos.
      RecordError: a video does not read.
    """
    _check_same_videos(source, predictions)
    unknown = np.full(predictions.exit_logits.shape[1], np.nan)  # no cost is drawn
    groups = {
        title: list(source_predictions(source, spec, classes, predictions, unknown, rows=rows))
        for title, rows in gallery_rows(predictions, count).items()
    }
    return draw_gallery(groups)


def _check_same_videos(source: Source, predictions: Predictions) -> None:
    """Raises UserError unless the labels of the first and last predicted videos are those of ``source``."""
    for row in (predictions.index.argmin(), predictions.index.argmax()):
        index, labels = int(predictions.index[row]), predictions.labels[row]
        if index >= len(source) or set(source[index].labels) != set(labels[labels >= 0].tolist()):
            raise UserError("the stored predictions are of other videos: run adafocus evaluate again")


def gallery_rows(predictions: Predictions, count: int) -> dict[str, list[int]]:
    """Which rows of ``predictions`` a gallery shows: ``count`` at most in each of its groups, by title.

    A video is right where the most probable class is one of its labels; the probability of that class is its
    confidence.
    """
    probabilities = softmax(predictions.logits)
    confidence, predicted = probabilities.max(axis=-1), probabilities.argmax(axis=-1)
    right = (predictions.labels == predicted[:, None]).any(axis=1)
    rising = np.argsort(confidence, kind="stable")
    falling = np.argsort(-confidence, kind="stable")
    return {
        "Most confident": falling[:count].tolist(),
        "Least confident": rising[:count].tolist(),
        "Wrong, the most confident first": falling[~right[falling]][:count].tolist(),
    }


def draw_gallery(groups: Mapping[str, Sequence[VideoPrediction]]) -> np.ndarray:
    """Draws groups of predictions, which have ``frames`` and a ``true_class``: RGB ``uint8 [H, 960, 3]``.

    Under each frame stand the predicted class, green where it is right, with its probability, and the true class where
    it is another; the box is that of the frame's patch.
    """
    tile_height = _TILE + 2 * _LINE + _GAP
    heights = [2 * _LINE + max(-(-len(group) // COLUMNS), 1) * tile_height for group in groups.values()]
    canvas = np.full((_MARGIN + sum(heights), WIDTH_PX, 3), 255, np.uint8)
    tops = np.cumsum([_MARGIN, *heights])
    places = []
    for top, group in zip(tops, groups.values(), strict=False):
        for i, one in enumerate(group):
            row, column = divmod(i, COLUMNS)
            y, x = int(top) + 2 * _LINE + row * tile_height, _MARGIN + column * (_TILE + _GAP)
            canvas[y : y + _TILE, x : x + _TILE] = _tile(one)
            places.append((y, x, one))
    figure = new_figure(len(canvas))
    axes = cover(figure, canvas)
    for top, (title, group) in zip(tops, groups.items(), strict=False):
        heading = title if group else f"{title}: none"
        write_text(axes, _MARGIN, int(top) + 1.4 * _LINE, heading, TEXT_PX, weight="bold")
    for y, x, one in places:
        _write_caption(axes, y + _TILE, x, one)
    return to_image(figure)


def _tile(prediction: VideoPrediction) -> np.ndarray:
    """The focus frame in the heaviest stretch of the video, with its box, fitted into a square."""
    frames, chosen = shown_frames(prediction), prediction.frame_indices
    index, box = len(frames) // 2, None
    if len(chosen):
        weights = prediction.frame_weights
        best = int(np.argmax(weights[chosen * len(weights) // len(frames)]))
        index, box = int(chosen[best]), prediction.boxes[best]
    height, width = frames.shape[1:3]
    scale = _TILE / max(height, width)
    size = max(round(height * scale), 1), max(round(width * scale), 1)
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    image = cv2.resize(frames[index], size[::-1], interpolation=method)
    if box is not None:
        top, left, bottom, right = (
            np.rint(scale * np.array([*box[:2], *(box[:2] + box[2:])])).astype(int).tolist()
        )
        cv2.rectangle(image, (left, top), (right - 1, bottom - 1), (255, 255, 255), 4)
        cv2.rectangle(image, (left, top), (right - 1, bottom - 1), rgb(CHOSEN), 2)
    tile = np.full((_TILE, _TILE, 3), 240, np.uint8)
    top, left = (_TILE - size[0]) // 2, (_TILE - size[1]) // 2
    tile[top : top + size[0], left : left + size[1]] = image
    return tile


def _write_caption(axes: Axes, y: int, x: int, prediction: VideoPrediction) -> None:
    (best,) = prediction.top(1)
    truth = str(prediction.extra.get("true_class", ""))
    right = best.name == truth or best.name in truth.split(", ")
    letters = int(_TILE / (0.58 * (TEXT_PX - 9)))
    text = f"{shorten(best.name, letters - 5)} {best.probability:.0%}"
    write_text(axes, x, y + 0.8 * _LINE, text, TEXT_PX - 9, TRUTH if right else CHOSEN, weight="bold")
    if not right:
        write_text(axes, x, y + 1.6 * _LINE, f"is {shorten(truth, letters - 3)}", TEXT_PX - 9, INK)

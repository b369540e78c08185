"""Strips of video frames, one below the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from adafocus_jax.visualize.style import TEXT_PX, WIDTH_PX, cover, new_figure, shorten, to_image, write_text

_MARGIN, _GAP, _LINE = 20, 6, 36


class Strip(NamedTuple):
    """Frames of one video under a caption."""

    caption: str
    frames: Sequence[np.ndarray]
    """One or more, ``[H, W, 3]`` uint8, all of one size."""


def draw_strips(strips: Sequence[Strip]) -> np.ndarray:
    """Draws one or more strips, the longest as wide as the picture: RGB ``uint8 [H, 960, 3]``."""
    columns = max(len(strip.frames) for strip in strips)
    pictures = [_join(strip.frames, columns) for strip in strips]
    tops = np.cumsum([_MARGIN] + [_LINE + len(picture) + _MARGIN for picture in pictures])
    canvas = np.full((tops[-1], WIDTH_PX, 3), 255, np.uint8)
    for top, picture in zip(tops, pictures, strict=False):
        canvas[top + _LINE :][: len(picture), _MARGIN : _MARGIN + picture.shape[1]] = picture
    figure = new_figure(len(canvas))
    axes = cover(figure, canvas)
    for top, strip in zip(tops, strips, strict=False):
        write_text(axes, _MARGIN, top + _LINE - 10, shorten(strip.caption, 62), TEXT_PX - 4)
    return to_image(figure)


def _join(frames: Sequence[np.ndarray], columns: int) -> np.ndarray:
    width = (WIDTH_PX - 2 * _MARGIN - (columns - 1) * _GAP) // columns
    height = max(1, round(width * frames[0].shape[0] / frames[0].shape[1]))
    gap = np.full((height, _GAP, 3), 255, np.uint8)
    row = [part for frame in frames for part in (_scale(frame, height, width), gap)]
    return np.concatenate(row[:-1], axis=1)


def _scale(frame: np.ndarray, height: int, width: int) -> np.ndarray:
    method = cv2.INTER_AREA if width < frame.shape[1] else cv2.INTER_CUBIC
    return cv2.resize(frame, (width, height), interpolation=method)

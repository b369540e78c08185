"""Resize, crop and flip of uint8 frames: one cut per video, the same for all its frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from adafocus_jax.data.media.resize import resize, scaled_to_short_side

SCALES = (1.0, 0.875, 0.75, 0.66)
"""Sides of a training crop, as fractions of the frame's short side (the authors' release)."""

# (down, right) in quarters of the room that the crop leaves: corners, edges, centre, and between them.
_PLACES = (
    *((0, 0), (0, 4), (4, 0), (4, 4), (2, 2)),
    *((0, 2), (2, 0), (2, 4), (4, 2)),
    *((1, 1), (1, 3), (3, 1), (3, 3)),
)


REDUCTIONS = (8, 4, 2)
"""By what a JPEG decoder can make frames smaller at a gain in speed."""


@dataclass(frozen=True)
class Cut:
    """What is cut from each frame of a video: resize to ``height × width``, crop a box, perhaps mirror it."""

    height: int
    width: int
    top: int
    left: int
    crop_height: int
    crop_width: int
    flip: bool = False


def random_cut(
    height: int,
    width: int,
    rng: np.random.Generator,
    *,
    scales: Sequence[float] = SCALES,
    flip: bool = True,
) -> Cut:
    """Training cut: both sides from ``scales`` × short side, neighbours in the list, at one of 13 places.

    Mirrored with probability ½ if ``flip``. Source: the authors' release (multi-scale crop).
    """
    sides = [max(1, int(min(height, width) * scale)) for scale in scales]
    pairs = [(a, b) for i, a in enumerate(sides) for j, b in enumerate(sides) if abs(i - j) <= 1]
    crop_height, crop_width = pairs[rng.integers(len(pairs))]
    down, right = _PLACES[rng.integers(len(_PLACES))]
    top, left = (height - crop_height) * down // 4, (width - crop_width) * right // 4
    return Cut(height, width, top, left, crop_height, crop_width, flip and bool(rng.integers(2)))


def eval_cut(height: int, width: int, *, short_side: int, crop: int, place: float = 0.5) -> Cut:
    """Test cut: the short side becomes ``short_side`` pixels, and ``crop``² pixels at middle height stay.

    ``place`` says where along the width: 0 at the left edge, 0.5 in the middle, 1 at the right edge.

    >>> eval_cut(256, 340, short_side=256, crop=224)
    Cut(height=256, width=340, top=16, left=58, crop_height=224, crop_width=224, flip=False)
    """
    height, width = scaled_to_short_side(height, width, short_side)
    return Cut(height, width, (height - crop) // 2, int((width - crop) * place), crop, crop)


def reduced(cut: Cut, height: int, width: int, size: int) -> tuple[int, Cut]:
    """How much smaller frames of ``height × width`` may come, with every pixel of the clip still made of one or more.

    Returns:
      The factor, 8, 4, 2 or 1, and the cut of such frames, the same to within a pixel of theirs.

    >>> reduced(Cut(480, 640, 0, 81, 480, 480), 480, 640, size=224)
    (2, Cut(height=240, width=320, top=0, left=40, crop_height=240, crop_width=240, flip=False))
    """
    room = min(height / cut.height, width / cut.width) * min(cut.crop_height, cut.crop_width) / size
    factor = next((factor for factor in REDUCTIONS if factor <= room), 1)
    if (cut.height, cut.width) != (height, width):
        return factor, cut  # It is of resized frames, whatever they are resized from.
    sides = (-(-height // factor), -(-width // factor))
    box = (cut.top // factor, cut.left // factor, cut.crop_height // factor, cut.crop_width // factor)
    return factor, Cut(*sides, *box, cut.flip)


def apply_cut(frame: np.ndarray, cut: Cut, out: np.ndarray, scratch: np.ndarray | None = None) -> None:
    """Writes the cut of ``frame [H, W, 3]`` uint8, resized to fit, into ``out [S, S, 3]`` uint8.

    ``scratch``, of the form of ``out``, saves the time that fresh memory takes where frames are mirrored.
    """
    whole = resize(frame, cut.height, cut.width)
    box = whole[cut.top : cut.top + cut.crop_height, cut.left : cut.left + cut.crop_width]
    height, width, _ = out.shape
    if cut.flip:
        cv2.flip(resize(box, height, width, scratch), 1, out)
    else:
        resize(box, height, width, out)

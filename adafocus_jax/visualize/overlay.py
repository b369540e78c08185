"""The video itself, with the chosen boxes drawn where and when the model looked, and what it made of them below."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

import cv2
import numpy as np

from adafocus_jax.types import VideoPrediction
from adafocus_jax.visualize.files import write_mp4
from adafocus_jax.visualize.overlay_panel import Panel
from adafocus_jax.visualize.style import CHOSEN, rgb

WHITE = (255, 255, 255)
SHORT_SIDE_PX = (320, 720)
"""Least and greatest short side of the drawn video."""
HOLD_SEC = 0.6


@dataclass(frozen=True)
class FrameCrop:
    """Where the model's frame lies in the video's: pixel (y, x) stands at (top + scale·y, left + scale·x)."""

    top_px: float = 0.0
    left_px: float = 0.0
    scale: float = 1.0
    """Pixels of the video per pixel of the model's frame."""

    @classmethod
    def of_test(cls, height: int, width: int, *, short_side: int, image_size: int) -> FrameCrop:
        """The middle of a frame of ``height × width``, as ``eval_cut`` cuts it.

        >>> FrameCrop.of_test(480, 640, short_side=256, image_size=224)
        FrameCrop(top_px=30.0, left_px=110.0, scale=1.875)
        """
        scale = min(height, width) / short_side
        return cls((height - image_size * scale) / 2, (width - image_size * scale) / 2, scale)

    def to_video(self, boxes: np.ndarray) -> np.ndarray:
        """Boxes ``[F, 4]`` in pixels of the model's frame → the same in pixels of the video.

        >>> FrameCrop(top_px=0, left_px=40, scale=2).to_video(np.array([[10.0, 20, 30, 40]]))
        array([[20., 80., 60., 80.]])
        """
        return boxes * self.scale + np.array([self.top_px, self.left_px, 0, 0])


def write_overlay(
    path: str | os.PathLike[str],
    video: Iterable[tuple[float, np.ndarray]],
    prediction: VideoPrediction,
    *,
    short_side: int,
    image_size: int,
) -> None:
    """Writes the video as an mp4 with the boxes drawn, and below them the classes and the temporal policy.

    At each chosen frame everything outside its box goes dark and comes back within ``HOLD_SEC``. Below, the bars of the
    five leading classes move on to the next exit, and a cursor runs along the weights of the temporal policy. Frames
    are told apart by number, not by time. Memory is that of a few frames, however long the video is.

    Args:
      path: where to write it.
      video: all frames of the video that was predicted, in order: time in seconds and RGB ``uint8 [H, W, 3]``, of one
        size; drawn with a short side of 320 to 720 pixels.
      prediction: of this video.
      short_side: of the frame that the model's frame was cut from, in pixels (``ClipSpec.short_side``).
      image_size: side of the model's frame in pixels.
    """
    numbers, times = prediction.candidate_numbers, prediction.candidate_times_sec
    span = times[-1] - times[0]
    fps = float(np.clip((numbers[-1] - numbers[0]) / span, 1, 240)) if span > 0 else 1.0
    write_mp4(path, _drawn(video, fps, prediction, short_side, image_size), fps)


def _drawn(
    video: Iterable[tuple[float, np.ndarray]],
    fps: float,
    prediction: VideoPrediction,
    short_side: int,
    image_size: int,
) -> Iterator[np.ndarray]:
    frames = iter(video)
    first = next(frames)
    height, width = _drawn_size(*first[1].shape[:2])
    crop = FrameCrop.of_test(height, width, short_side=short_side, image_size=image_size)
    boxes = np.rint(crop.to_video(prediction.boxes)).astype(int).clip(0)
    panel, hold = Panel(prediction, width + width % 2), max(round(HOLD_SEC * fps), 1)
    for number, (time_sec, frame) in enumerate(chain([first], frames)):
        method = cv2.INTER_AREA if height < frame.shape[0] else cv2.INTER_CUBIC
        image = cv2.resize(frame, (width, height), interpolation=method)
        seen = int(np.searchsorted(prediction.frame_numbers, number, side="right"))
        age = (number - prediction.frame_numbers[seen - 1]) / hold if seen else 1.0
        if age < 1:
            _highlight(image, boxes[seen - 1], 1 - age)
        # H.264 halves the colour planes: an odd side grows by one pixel.
        padded = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        yield np.vstack([padded, panel.draw(time_sec, seen, min(age, 1.0))])


def _drawn_size(height: int, width: int) -> tuple[int, int]:
    least, most = SHORT_SIDE_PX
    short = min(height, width)
    zoom = -(-least // short) if short < least else min(1.0, most / short)
    return round(height * zoom), round(width * zoom)


def _highlight(image: np.ndarray, box: np.ndarray, strength: float) -> None:
    """Darkens what lies outside the box by up to two thirds, and draws the box. In place."""
    top, left, bottom, right = box[0], box[1], box[0] + box[2], box[1] + box[3]
    inside = image[top:bottom, left:right].copy()
    cv2.convertScaleAbs(image, dst=image, alpha=1 - 0.65 * strength)
    image[top:bottom, left:right] = inside
    thick = max(round(min(image.shape[:2]) / 120), 2)
    corners = (int(left), int(top)), (int(right) - 1, int(bottom) - 1)
    cv2.rectangle(image, *corners, WHITE, thick + 2)
    cv2.rectangle(image, *corners, rgb(CHOSEN), thick)

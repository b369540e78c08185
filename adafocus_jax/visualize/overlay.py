"""The video itself, with the chosen boxes drawn where and when the model looked."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from adafocus_jax.types import VideoPrediction
from adafocus_jax.visualize.files import write_mp4
from adafocus_jax.visualize.frames import verdict
from adafocus_jax.visualize.style import CHOSEN, cover, new_figure, to_image, write_text

ORANGE = tuple(bytes.fromhex(CHOSEN[1:]))
GREY, WHITE = (90, 90, 90), (255, 255, 255)


@dataclass(frozen=True)
class FrameCrop:
    """Where the model's frame lies in the video's: pixel (y, x) stands at (top + scale·y, left + scale·x)."""

    top_px: float = 0.0
    left_px: float = 0.0
    scale: float = 1.0
    """Pixels of the video per pixel of the model's frame."""

    def to_video(self, boxes: np.ndarray) -> np.ndarray:
        """Boxes ``[F, 4]`` in pixels of the model's frame → the same in pixels of the video.

        >>> FrameCrop(top_px=0, left_px=40, scale=2).to_video(np.array([[10.0, 20, 30, 40]]))
        array([[20., 80., 60., 80.]])
        """
        return boxes * self.scale + np.array([self.top_px, self.left_px, 0, 0])


def write_overlay(
    path: str | os.PathLike[str],
    video_frames: Sequence[np.ndarray] | np.ndarray,
    fps: float,
    prediction: VideoPrediction,
    crop: FrameCrop,
    *,
    hold_sec: float = 0.6,
) -> None:
    """Writes the video, T times RGB ``uint8 [H, W, 3]``, as an mp4 with boxes, the predicted class and a time line.

    At each chosen frame everything outside its box goes dark and comes back over ``hold_sec``, while the box
    stays. Small videos are enlarged to a short side of about 320 pixels.
    """
    zoom = max(1, round(320 / min(video_frames[0].shape[:2])))
    boxes = np.rint(zoom * crop.to_video(prediction.boxes)).astype(int).clip(0)
    shown_at = np.rint(prediction.times_sec[prediction.frame_indices] * fps).astype(int)
    frames = _drawn(video_frames, zoom, boxes, shown_at, max(round(hold_sec * fps), 1), verdict(prediction))
    write_mp4(path, frames, fps)


def _drawn(
    video: Sequence[np.ndarray] | np.ndarray,
    zoom: int,
    boxes: np.ndarray,
    shown_at: np.ndarray,
    hold: int,
    caption: str,
) -> Iterator[np.ndarray]:
    height, width = (zoom * side for side in video[0].shape[:2])
    band = _caption_band(caption, width + width % 2, 2 * max(height // 20, 18))
    for t, frame in enumerate(video):
        image = cv2.resize(frame, (width, height), interpolation=cv2.INTER_CUBIC)
        latest = np.searchsorted(shown_at, t, side="right") - 1
        if latest >= 0 and t - shown_at[latest] < hold:
            _highlight(image, boxes[latest], 1 - (t - shown_at[latest]) / hold)
        foot = band.copy()
        _draw_time_line(foot, t / len(video), shown_at / len(video))
        # H.264 halves the colour planes: an odd side grows by one pixel.
        yield np.vstack([np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge"), foot])


def _highlight(image: np.ndarray, box: np.ndarray, strength: float) -> None:
    """Darkens what lies outside the box by up to two thirds, and draws the box. In place."""
    top, left, bottom, right = box[0], box[1], box[0] + box[2], box[1] + box[3]
    inside = image[top:bottom, left:right].copy()
    cv2.convertScaleAbs(image, dst=image, alpha=1 - 0.65 * strength)
    image[top:bottom, left:right] = inside
    thick = max(round(min(image.shape[:2]) / 120), 2)
    corners = (int(left), int(top)), (int(right) - 1, int(bottom) - 1)
    cv2.rectangle(image, *corners, WHITE, thick + 2)
    cv2.rectangle(image, *corners, ORANGE, thick)


def _caption_band(text: str, width: int, height: int) -> np.ndarray:
    figure = new_figure(height, width)
    axes = cover(figure, np.full((height, width, 3), 24, np.uint8))
    size = min(0.5 * height, 1.55 * width / len(text))
    write_text(axes, 0.3 * height, 0.4 * height, text, size, "white", weight="bold", va="center")
    return to_image(figure)


def _draw_time_line(band: np.ndarray, now: float, chosen: np.ndarray) -> None:
    """Along the foot of the band: grey for what is to come, white for what was, orange for chosen frames."""
    height, width = band.shape[:2]
    line = band[-max(height // 5, 6) :]
    line[:] = GREY
    line[:, : round(now * width)] = WHITE
    tick = max(width // 100, 3)
    for share in chosen:
        line[:, round(share * width) : round(share * width) + tick] = ORANGE

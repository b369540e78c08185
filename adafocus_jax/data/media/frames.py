"""What a frame of a video is, and how the wanted ones are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

Picture = TypeVar("Picture")

Choose = Callable[[int], Iterable[int]]
"""From a video's number of frames to the numbers of those wanted, each once, increasing."""

Reduce = Callable[[int, int], int]
"""From a video's height and width in pixels to the factor (1, 2, 4 or 8) by which its frames may come smaller."""

Deliver = Callable[[Callable[[], np.ndarray], int], Any]
"""From what makes a frame's pixels, and the bytes that it keeps in memory until then, to what a reader yields."""


class DecodeError(Exception):
    """A file that does not decode as a video; the message is the reason, in words."""


class Shown(NamedTuple, Generic[Picture]):
    """A picture of a video, decoded or not, and when it is shown."""

    time_sec: float
    """From the first frame."""
    until_sec: float
    """When the next frame, or the end, is due."""
    picture: Picture


class Frame(NamedTuple):
    """A decoded frame of a video."""

    number: int
    time_sec: float
    """Where it stands in the video."""
    pixels: np.ndarray
    """``[H, W, 3]`` uint8 RGB; may be overwritten by the next frame."""


def at_once(pixels: Callable[[], np.ndarray], held_bytes: int) -> np.ndarray:
    """The pixels: a ``Deliver`` that defers nothing."""
    return pixels()


def unreduced(height: int, width: int) -> int:
    """The factor 1 for every size: a ``Reduce`` that asks for whole frames."""
    return 1

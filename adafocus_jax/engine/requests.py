"""What goes into the engine and what comes out of it."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

import numpy as np

Pixels = Callable[[], np.ndarray]
ChosenPixels = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Request:
    """One video, whose pixels are given as arrays or asked for when they are needed.

    Callables run in the engine's threads, one at a time for one video. What they raise is that video's result.
    """

    key: Hashable
    """Comes back with the result."""
    glance: np.ndarray | Pixels
    """uint8 ``[G, H, W, 3]``: what the glance sees, or what returns it. Candidates ``engine.glance_indices`` or, where
    that is None, frames that were sampled for the glance; all ``N`` candidates for a plain classifier."""
    focus: np.ndarray | ChosenPixels | None = None
    """uint8 ``[N, H, W, 3]``: all candidates; or what returns ``[F, H, W, 3]``, those of the given int32 ``[F]``,
    called once, for videos that stay after the glance alone. None for a plain classifier."""
    close: Callable[[], None] | None = None
    """Called once, when no more pixels of this video are needed."""


@dataclass(frozen=True, eq=False)
class Result:
    """What became of one video: its prediction, or an error."""

    key: Hashable
    seconds: float
    """From its admission, when its pixels were asked for, to now."""
    error: Exception | None = None
    """Why there is no prediction; the fields below are then empty."""
    logits: np.ndarray | None = None
    """``[exit + 1, K]`` float32, of all exits up to the one taken; the last is the prediction. NaN for exits that were
    not asked for (``Engine``'s ``every_exit``)."""
    exit: int = -1
    """0…E−1: the exit taken."""
    gflops: float = 0.0
    """Cost of a video that leaves there, in giga multiply-adds."""
    frame_indices: np.ndarray | None = None
    """``[F]`` int32 in 0…N−1: the chosen candidates; None where the video left at the glance."""
    boxes: np.ndarray | None = None
    """``[F, 4]`` float32, pixels: top, left, height, width; None likewise."""
    frame_weights: np.ndarray | None = None
    """``[G]`` float32, sums to 1: the temporal policy; None likewise."""

"""Windows of long videos: what happens when, one prediction for each stretch of time."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from adafocus_jax.data.batches.clips import ClipSpec
from adafocus_jax.data.batches.sampling import segment_indices
from adafocus_jax.data.batches.sources import SHORT_SIDE, Video, VideoData
from adafocus_jax.data.datasets.entries import iter_entry
from adafocus_jax.data.media.frames import Choose, Frame, Reduce, unreduced
from adafocus_jax.data.media.resize import resize
from adafocus_jax.data.media.video import DecodeError
from adafocus_jax.data.records.schema import RecordError
from adafocus_jax.errors import UserError

_TOLERANCE_SEC = 1e-3  # of time stamps in whole milliseconds


@dataclass(frozen=True, eq=False)
class Window:
    """Part of a video, as a video of its own: of its frames, those that a clip is made of."""

    name: str
    start_sec: float
    end_sec: float
    num_frames: int
    frames: dict[int, Frame]
    """Place within the window to the frame, whose number and time are those in the whole video."""
    labels: tuple[int, ...] = ()

    def read(self, choose: Choose, reduce: Reduce = unreduced) -> Iterator[Frame]:
        """The chosen frames, one by one.

        Raises:
          RecordError: there is no frame in this stretch of time.
        """
        if not self.num_frames:
            raise RecordError(f"{self.name} has no frame from {self.start_sec:.2f} to {self.end_sec:.2f} s")
        factor = 0
        for number in choose(self.num_frames):
            pixels = self.frames[number].pixels
            factor = factor or reduce(*pixels.shape[:2])
            height, width = (-(-side // factor) for side in pixels.shape[:2])
            yield Frame(number, self.frames[number].time_sec, resize(pixels, height, width))


@dataclass(frozen=True)
class BrokenVideo:
    """Stands for a video that does not read: reading it raises why."""

    name: str
    error: Exception
    labels: tuple[int, ...] = ()

    def read(self, choose: Choose, reduce: Reduce = unreduced) -> Iterator[Frame]:
        """Raises the error."""
        raise self.error


def windows_of(
    video: VideoData, spec: ClipSpec, window_sec: float, stride_sec: float
) -> Iterator[Window | BrokenVideo]:
    """``iter_windows`` of a video of any kind; if it breaks off, the last item says so."""
    try:
        yield from iter_windows(video.name, _all_frames(video), spec, window_sec, stride_sec)
    except (UserError, DecodeError, OSError) as error:
        said = (
            error if isinstance(error, UserError) else RecordError(f"{video.name} does not decode: {error}")
        )
        yield BrokenVideo(video.name, said)


def _all_frames(video: VideoData) -> Iterator[tuple[float, np.ndarray]]:
    if isinstance(video, Video):  # One at a time, where ``read`` would hold all that are chosen.
        yield from iter_entry(video.entry, short_side=SHORT_SIDE, max_fps=None, options=video.options)
    else:
        for frame in video.read(range):
            yield frame.time_sec, frame.pixels


def check_window(window_sec: float, stride_sec: float) -> None:
    """Raises UserError unless windows have a length, and each begins after the one before."""
    for name, value in (("window_sec", window_sec), ("stride_sec", stride_sec)):
        if not 0 < value < math.inf:
            raise UserError(f"{name}={value}: give more than 0 seconds")


def iter_windows(
    name: str,
    stamped: Iterable[tuple[float, np.ndarray]],
    spec: ClipSpec,
    window_sec: float,
    stride_sec: float,
) -> Iterator[Window]:
    """Windows ``[k · stride, k · stride + window)`` of a video, in order, up to the first that reaches its end.

    Decoded once; memory is that of the frames of one window.

    Args:
      name: of the video.
      stamped: all of its frames, in order: time in seconds, and RGB ``uint8 [H, W, 3]`` with the short side at
        ``SHORT_SIDE``.
      spec: how clips are cut.
      window_sec: how long a window is.
      stride_sec: from the start of one to the start of the next.
    """
    check_window(window_sec, stride_sec)
    held: deque[Frame] = deque()
    count, number = 0, -1
    for number, (time_sec, pixels) in enumerate(stamped):
        while time_sec >= count * stride_sec + window_sec - _TOLERANCE_SEC:
            yield make_window(name, held, spec, count * stride_sec, window_sec)
            count += 1
            while held and held[0].time_sec < count * stride_sec - _TOLERANCE_SEC:
                held.popleft()
        if time_sec >= count * stride_sec - _TOLERANCE_SEC:
            held.append(Frame(number, time_sec, pixels.copy()))  # The decoder may use its memory again.
    if held or number < 0:
        yield make_window(name, held, spec, count * stride_sec, window_sec)


def make_window(
    name: str, held: Iterable[Frame], spec: ClipSpec, start_sec: float, window_sec: float
) -> Window:
    """A window of the frames ``held``, of which it keeps those that its clip is made of."""
    frames = list(held)
    wanted = set[int]()
    for count in (spec.num_candidates, spec.num_glance):
        if count and frames:
            wanted |= set(segment_indices(len(frames), count).tolist())
    kept = {place: frames[place] for place in sorted(wanted)}
    return Window(name, start_sec, start_sec + window_sec, len(frames), kept)

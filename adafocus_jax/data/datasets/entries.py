"""Reads what an entry points at, whatever it is: a video file, a folder of frames, or a volume."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from adafocus_jax.data.datasets.entry import Entry
from adafocus_jax.data.media.frame_folder import iter_folder
from adafocus_jax.data.media.frames import Deliver, Frame, at_once
from adafocus_jax.data.media.kinds import Media, media_kind
from adafocus_jax.data.media.limits import ReadLimits
from adafocus_jax.data.media.probe import probe_folder, probe_video
from adafocus_jax.data.media.sparse_video import UnusualVideoError, iter_sparse
from adafocus_jax.data.media.video import DecodedVideo, iter_frames, read_chosen, stack_frames
from adafocus_jax.data.media.volume import iter_slices
from adafocus_jax.errors import UserError


@dataclass(frozen=True)
class ReadOptions:
    """What files do not tell of themselves.

    Raises:
      UserError: a value out of range.
    """

    frame_rate: float = 12.0
    """Of folders of frames, in frames per second; 12 is that of Something-Something and Jester."""
    axis: int = 2
    """Of volumes: along which slices follow each other. 0: left to right, 1: back to front, 2: bottom to top."""
    window: tuple[float, float] | None = None
    """Of volumes: the intensities shown black and white; None: the percentiles 1 and 99 of each volume."""
    limits: ReadLimits = field(default_factory=ReadLimits)
    """How large a video may be, of any kind."""

    def __post_init__(self) -> None:
        if not self.frame_rate > 0:
            raise UserError(f"frame_rate={self.frame_rate} is not valid: give more than 0 frames per second")
        if self.axis not in (0, 1, 2):
            raise UserError(f"axis={self.axis} is not valid: give 0, 1 or 2")
        if self.window is not None and not self.window[0] < self.window[1]:
            raise UserError(f"window={self.window} is not valid: give a low and a higher intensity")


def iter_entry(
    entry: Entry, *, short_side: int | None, max_fps: float | None, options: ReadOptions
) -> Iterator[tuple[float, np.ndarray]]:
    """Yields ``(time in seconds from its first frame, frame [H, W, 3] uint8 RGB)`` of an entry, one at a time.

    Args:
      entry: what to read; of its segment alone, if it has one.
      short_side: the short side of the yielded frames in pixels; None keeps the size.
      max_fps: frames are dropped to at most this rate; None keeps all. A volume has one slice a second.
      options: for folders of frames and volumes.

    Raises:
      DecodeError: it does not decode, or the segment reaches out of it.
      UserError: a volume, and nibabel is not installed.
    """
    match media_kind(entry.path):
        case Media.FRAMES:
            read = partial(iter_folder, entry.path, options.frame_rate)
        case Media.VOLUME:
            read = partial(iter_slices, entry.path, options.axis, options.window)
        case Media.VIDEO:
            read = partial(iter_frames, entry.path)
    return read(short_side=short_side, max_fps=max_fps, segment=entry.segment, limits=options.limits)


def check_entry(entry: Entry, options: ReadOptions) -> None:
    """Looks at an entry as far as can be done without decoding all of it: at its first and last frames.

    Raises:
      DecodeError, UserError: as ``iter_entry``.
    """
    match media_kind(entry.path):
        case Media.FRAMES:
            probe_folder(entry.path, options.frame_rate, entry.segment, options.limits)
        case Media.VOLUME:
            next(iter_entry(entry, short_side=None, max_fps=None, options=options))
        case Media.VIDEO:
            probe_video(entry.path, entry.segment, options.limits)


def read_entry(
    entry: Entry, *, short_side: int | None, max_fps: float | None, options: ReadOptions
) -> DecodedVideo:
    """All of an entry in memory; the arguments and errors are those of ``iter_entry``."""
    return stack_frames(iter_entry(entry, short_side=short_side, max_fps=max_fps, options=options))


def iter_chosen(
    entry: Entry,
    choose: Callable[[int], Iterable[int]],
    *,
    short_side: int,
    options: ReadOptions,
    deliver: Deliver = at_once,
) -> Iterator[Frame]:
    """Decodes the frames of an entry that ``choose(number of frames)`` names, and few others, one at a time.

    Args:
      entry: what to read; of its segment alone, if it has one.
      choose: from the number of frames to the numbers wanted, each once, increasing; called again where the number
        turns out to be another: what comes then counts in place of what came before.
      short_side: of the frames in pixels.
      options: for folders of frames and volumes.
      deliver: what frames have in place of pixels that are made later.

    Raises:
      DecodeError, UserError: as ``iter_entry``.
    """
    numbers: list[int] = []

    def wanted(count: int) -> list[int]:
        numbers[:] = choose(count)
        return numbers

    part: dict[str, Any] = {
        "short_side": short_side,
        "segment": entry.segment,
        "limits": options.limits,
        "deliver": deliver,
    }
    match media_kind(entry.path):
        case Media.FRAMES:
            stamped = iter_folder(entry.path, options.frame_rate, **part, choose=wanted)
        case Media.VOLUME:
            stamped = iter_slices(entry.path, options.axis, options.window, **part, choose=wanted)
        case Media.VIDEO:
            if entry.segment is None:
                try:
                    yield from iter_sparse(
                        entry.path, choose, short_side=short_side, limits=options.limits, deliver=deliver
                    )
                    return
                except UnusualVideoError:
                    pass  # From the start, with care.
            chosen = read_chosen(entry.path, wanted, **part)
            stamped = zip(chosen.times_sec, chosen.frames, strict=True)
    # What is wanted is known once the first frame is there.
    for place, (time_sec, pixels) in enumerate(stamped):
        yield Frame(numbers[place], float(time_sec), pixels)

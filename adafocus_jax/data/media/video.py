"""Video files to RGB frames with PyAV: decoded once, in order; what is not wanted is dropped unconverted."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import av
import numpy as np
from av.format import Flags

from adafocus_jax.data.media.clock import Clock
from adafocus_jax.data.media.container import open_video, pixel_aspect
from adafocus_jax.data.media.deinterlace import deinterlaced
from adafocus_jax.data.media.frames import DecodeError, Deliver, Picture, Shown, at_once
from adafocus_jax.data.media.limits import ReadLimits
from adafocus_jax.data.media.picture import decoded_bytes, rgb_converter

# A stream that ends before this share of the length it states has lost its end.
_MIN_DECODED_FRAC = 0.8

# Timestamps in whole milliseconds jitter; without this share of a frame interval, 30 of 30 fps would lose frames.
_FPS_TOLERANCE = 0.1
_STAMP_TOLERANCE_SEC = 1e-3

# Formats with an index of time stamps. In others, such as MPEG streams, stamps behind a seek may be off by a frame.
_SEEKABLE = ("mov", "matroska")

# Formats that state one length for all of their streams: that of the longest.
_ONE_LENGTH = ("matroska", "flv", "asf", "rm")

_GENEROUS = ReadLimits()

Item = TypeVar("Item")


@dataclass(frozen=True)
class DecodedVideo:
    """The frames of one video, ``[T, H, W, 3]`` uint8 RGB, T ≥ 1, and their mean rate in frames per second."""

    frames: np.ndarray
    fps: float


@dataclass(frozen=True)
class ChosenFrames:
    """Some frames of a video, ``[H, W, 3]`` uint8 RGB each, and where they stand in it, in seconds."""

    frames: list[np.ndarray]
    times_sec: np.ndarray


def read_video(
    path: str | Path,
    *,
    short_side: int | None = None,
    max_fps: float | None = None,
    limits: ReadLimits = _GENEROUS,
) -> DecodedVideo:
    """Decodes all of a video into memory; the arguments and errors are those of ``iter_frames``."""
    return stack_frames(iter_frames(path, short_side=short_side, max_fps=max_fps, limits=limits))


def stack_frames(frames: Iterable[tuple[float, np.ndarray]]) -> DecodedVideo:
    """The video that ``(time in seconds, frame [H, W, 3] uint8)`` pairs are, at least one."""
    times, images = zip(*frames, strict=True)
    return DecodedVideo(np.stack(images), mean_fps(times))


def iter_frames(
    path: str | Path,
    *,
    short_side: int | None = None,
    max_fps: float | None = None,
    segment: tuple[float, float] | None = None,
    limits: ReadLimits = _GENEROUS,
) -> Iterator[tuple[float, np.ndarray]]:
    """Yields ``(time in seconds, frame [H, W, 3] uint8 RGB)`` as a player shows them, one at a time.

    Frames are upright, their pixels square, interlaced lines and high dynamic range converted, all of one size.

    Args:
      path: a video file of a container and codec that are read (see ``adafocus_jax.data.media``).
      short_side: the short side of the yielded frames in pixels; None keeps the size.
      max_fps: frames are dropped, by their timestamps, to at most this rate; None keeps all.
      segment: start and end in seconds from the first frame of the file, the end not included. Decoding starts at
        the last key frame before the start and stops at the end; times count from the segment's first frame.
      limits: how large the video may be.

    Raises:
      DecodeError: the file does not open, has no video stream, breaks off, passes a limit, or holds no frame; or the
        segment reaches out of the video by more than a fifth of its length.
    """
    with open_video(path, limits) as (container, stream):
        convert = rgb_converter(short_side, pixel_aspect(stream), limits)
        start = _seek(path, segment[0], container, stream, limits) if segment else None
        for time, frame in choose_frames(_decode(container, stream, limits, start), max_fps, segment):
            yield time, convert(frame)


def choose_frames(
    frames: Iterator[Shown[Picture]], max_fps: float | None, segment: tuple[float, float] | None
) -> Iterator[tuple[float, Picture]]:
    """``(time in seconds, picture)`` of those that lie in ``segment``, thinned out to at most ``max_fps``.

    >>> frames = (Shown(number / 2, number / 2 + 0.5, name) for number, name in enumerate("abcd"))
    >>> list(choose_frames(frames, 1.0, (0.5, 2.0)))
    [(0.0, 'b'), (1.0, 'd')]
    """
    due = 0
    for time, picture in _timed(frames) if segment is None else _cut(frames, *segment):
        place = time * (max_fps or 1) + _FPS_TOLERANCE
        if max_fps is None or place >= due:
            due = int(place) + 1
            yield time, picture


def _timed(frames: Iterator[Shown[Picture]]) -> Iterator[tuple[float, Picture]]:
    for frame in frames:
        yield frame.time_sec, frame.picture


def _cut(frames: Iterator[Shown[Picture]], start: float, end: float) -> Iterator[tuple[float, Picture]]:
    """The frames from ``start`` to before ``end``; times count from the first of them."""
    first, until = None, 0.0
    for frame in frames:
        until = frame.until_sec
        if frame.time_sec >= end - _STAMP_TOLERANCE_SEC:
            break
        if frame.time_sec >= start - _STAMP_TOLERANCE_SEC:
            first = frame.time_sec if first is None else first
            yield frame.time_sec - first, frame.picture
    check_segment((start, end), 0.0 if first is None else until, until)


def check_segment(segment: tuple[float, float], reached_sec: float, end_sec: float | None = None) -> None:
    """Refuses a segment of which less than four fifths are reached, in a video that ends: a ``DecodeError``."""
    start, end = segment
    if reached_sec < start + _MIN_DECODED_FRAC * (end - start) or not start < end or reached_sec <= start:
        until = reached_sec if end_sec is None else end_sec
        raise DecodeError(f"segment {start:.2f}–{end:.2f} s is not there: frames end after {until:.2f} s")


def pick(items: Iterable[Item], choose: Callable[[int], Iterable[int]]) -> Iterator[Item]:
    """Those of the ``items`` that ``choose(number of items)`` names; all are held in memory.

    >>> list(pick("abcd", lambda count: (0, count - 1)))
    ['a', 'd']
    """
    held = list(items)
    return (held[number] for number in choose(len(held)))


def read_chosen(
    path: str | Path,
    choose: Callable[[int], Iterable[int]],
    *,
    short_side: int | None = None,
    segment: tuple[float, float] | None = None,
    limits: ReadLimits = _GENEROUS,
    deliver: Deliver = at_once,
) -> ChosenFrames:
    """Decodes a video, but converts and keeps only the frames that ``choose(number of frames)`` names.

    Memory is that of the chosen frames, however long the video is. A ``segment`` (see ``iter_frames``) is decoded
    twice: how many frames it has is known only then. ``deliver`` says what to return in place of pixels.

    Raises:
      DecodeError: as ``iter_frames``.
    """
    expected = max(1, _count_packets(path, limits))
    while True:
        numbers = list(choose(expected))
        wanted = set(numbers)
        kept: dict[int, tuple[float, Any]] = {}
        with open_video(path, limits) as (container, stream):
            convert, count = rgb_converter(short_side, pixel_aspect(stream), limits), 0
            start = _seek(path, segment[0], container, stream, limits) if segment else None
            for time, frame in choose_frames(_decode(container, stream, limits, start), None, segment):
                if count in wanted:
                    kept[count] = time, deliver(partial(convert, frame), decoded_bytes(frame))
                count += 1
        if count == expected:
            times, frames = zip(*(kept[number] for number in numbers), strict=True)
            return ChosenFrames(list(frames), np.array(times))
        expected = count  # Some packets show no frame: choose again, now that the number is known.


def mean_fps(times: tuple[float, ...] | list[float]) -> float:
    """Mean rate of frames that stand at ``times`` (seconds, increasing); a single frame counts as one second.

    >>> mean_fps([0.0, 0.5, 1.0])
    2.0
    """
    span = times[-1] - times[0]
    return (len(times) - 1) / span if span > 0 else 1.0


def decode_frames(
    container: av.container.InputContainer,
    stream: av.VideoStream,
    limits: ReadLimits,
    first_stamp_sec: float | None = None,
) -> Iterator[Shown[av.VideoFrame]]:
    """Yields the frames of an open video in order, without those that arrived damaged.

    Args:
      container: as ``open_video`` opens it.
      stream: of it.
      limits: how many frames and packets it may have, and how long it may be.
      first_stamp_sec: the stamp of the video's first frame, where ``container`` stands at a later one.

    Raises:
      DecodeError: it breaks off, passes a limit, or holds no frame.
    """
    clock, ending = make_clock(container, stream), Ending(container, stream)
    if first_stamp_sec is not None:
        clock.start_at(first_stamp_sec)
    tick_sec = float(stream.time_base or 0)
    num_frames, num_packets = 0, 0
    before, held = 0.0, None
    try:
        for packet in container.demux(ending.streams):
            if ending.is_other(packet):
                continue
            limits.check_packets(num_packets := num_packets + 1)
            for frame in stream.decode(packet):
                if frame.is_corrupt:
                    continue
                clock.show(frame.time, frame.duration * tick_sec)
                limits.check_length(num_frames := num_frames + 1, clock.time_sec)
                if held is not None:
                    # Of two frames with one stamp, as of packed B-frames in AVI, the first has its own no more.
                    time = held.time_sec if held.time_sec < clock.time_sec else (before + clock.time_sec) / 2
                    yield Shown(before := time, clock.time_sec, held.picture)
                held = Shown(clock.time_sec, clock.until_sec, frame)
    except av.error.FFmpegError as error:
        raise DecodeError(f"breaks off after {clock.time_sec:.1f} s: {error.strerror}") from error
    if held is None:
        raise DecodeError("holds no frame that decodes")
    yield held
    ending.check(clock)


def make_clock(container: av.container.InputContainer, stream: av.VideoStream) -> Clock:
    """The clock of an open video."""
    step_sec = float(1 / stream.average_rate) if stream.average_rate else 1.0
    return Clock(step_sec, may_jump=Flags.ts_discont in Flags(container.format.flags))


class Ending:
    """Whether a video ends where its file says that it does."""

    def __init__(self, container: av.container.InputContainer, stream: av.VideoStream) -> None:
        self._stream = stream
        one_length = container.format.name.startswith(_ONE_LENGTH)
        self.streams = tuple(container.streams) if one_length else (stream,)
        """Those to demultiplex: all, where the file states the length of the longest alone."""
        self._stated_sec, self._others_end_sec = 0.0, 0.0
        if one_length:
            self._stated_sec = (container.duration or 0) / av.time_base
        elif stream.duration and stream.time_base:
            self._stated_sec = float(stream.duration * stream.time_base)

    def is_other(self, packet: av.Packet) -> bool:
        """Whether a packet is not of the video: then where it ends is kept."""
        if packet.stream.index == self._stream.index:  # those that flush have no index of their own
            return False
        if packet.pts is not None and packet.time_base is not None:
            end = float((packet.pts + (packet.duration or 0)) * packet.time_base)
            self._others_end_sec = max(self._others_end_sec, end)
        return True

    def check(self, clock: Clock) -> None:
        """Refuses a video that ended too early: a ``DecodeError``."""
        end = max(clock.until_sec, self._others_end_sec)
        if end < _MIN_DECODED_FRAC * self._stated_sec and not clock.was_reset:
            raise DecodeError(f"truncated: frames end after {end:.1f} of {self._stated_sec:.1f} s")


def _decode(
    container: av.container.InputContainer,
    stream: av.VideoStream,
    limits: ReadLimits,
    first_stamp_sec: float | None,
) -> Iterator[Shown[av.VideoFrame]]:
    return deinterlaced(decode_frames(container, stream, limits, first_stamp_sec))


def _seek(
    path: str | Path,
    start: float,
    container: av.container.InputContainer,
    stream: av.VideoStream,
    limits: ReadLimits,
) -> float | None:
    """Moves an open video to the key frame before ``start`` seconds; returns the stamp of its first frame.

    None: this file cannot be sought in, or seeking lands behind ``start``; it stays at its beginning.
    """
    if start > 0 and container.format.name.startswith(_SEEKABLE) and stream.time_base:
        with open_video(path, limits) as (other, same), contextlib.suppress(av.error.FFmpegError):
            stamps = (frame.time for frame in other.decode(same) if not frame.is_corrupt)
            if (first := next(stamps, None)) is not None:
                offset = int((first + start) / stream.time_base)
                other.seek(offset, stream=same)
                landed = next((frame.time for frame in other.decode(same)), None)
                if landed is not None and landed <= first + start:
                    container.seek(offset, stream=stream)
                    return first
    return None


def _count_packets(path: str | Path, limits: ReadLimits) -> int:
    with open_video(path, limits) as (container, stream):
        try:
            count = 0
            for packet in container.demux(stream):
                count += packet.size > 0
                limits.check_packets(count)
            return count
        except av.error.FFmpegError as error:
            raise DecodeError(f"breaks off: {error.strerror}") from error

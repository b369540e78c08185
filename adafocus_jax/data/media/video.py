"""Video files to RGB frames with PyAV: decoded once, in order; what is not wanted is dropped unconverted."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from adafocus_jax.data.media.frames import Deliver, at_once
from adafocus_jax.data.media.resize import resize, scaled_to_short_side

# A stream that ends before this share of the length it states has lost its end.
_MIN_DECODED_FRAC = 0.8

# Timestamps in whole milliseconds jitter; without this share of a frame interval, 30 of 30 fps would lose frames.
_FPS_TOLERANCE = 0.1
_STAMP_TOLERANCE_SEC = 1e-3

# Formats with an index of time stamps. In others, such as MPEG streams, stamps behind a seek may be off by a frame.
_SEEKABLE = ("mov", "matroska")

Frame = TypeVar("Frame")


class DecodeError(Exception):
    """A file that does not decode as a video; the message is the reason, in words."""


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
    path: str | Path, *, short_side: int | None = None, max_fps: float | None = None
) -> DecodedVideo:
    """Decodes all of a video into memory; the arguments and errors are those of ``iter_frames``."""
    return stack_frames(iter_frames(path, short_side=short_side, max_fps=max_fps))


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
) -> Iterator[tuple[float, np.ndarray]]:
    """Yields ``(time in seconds, frame [H, W, 3] uint8 RGB)``, upright, one size for the whole video, one at a time.

    Args:
      path: a video file in any format that FFmpeg reads.
      short_side: the short side of the yielded frames in pixels; None keeps the size.
      max_fps: frames are dropped, by their timestamps, to at most this rate; None keeps all.
      segment: start and end in seconds from the first frame of the file, the end not included. Decoding starts at
        the last key frame before the start and stops at the end; times count from the segment's first frame.

    Raises:
      DecodeError: the file does not open, has no video stream, breaks off, or holds no frame; or the segment
        reaches out of the video by more than a fifth of its length.
    """
    convert = rgb_converter(short_side)
    for time, frame in choose_frames(_decode(path, segment[0] if segment else 0.0), max_fps, segment):
        yield time, convert(frame)


def choose_frames(
    stamped: Iterator[tuple[float, Frame]], max_fps: float | None, segment: tuple[float, float] | None
) -> Iterator[tuple[float, Frame]]:
    """Those of the ``(time in seconds, frame)`` pairs that lie in ``segment``, thinned out to at most ``max_fps``.

    >>> list(choose_frames(iter([(0.0, "a"), (0.5, "b"), (1.0, "c"), (1.5, "d")]), 1.0, (0.5, 2.0)))
    [(0.0, 'b'), (1.0, 'd')]
    """
    due = 0
    for time, frame in stamped if segment is None else _cut(stamped, *segment):
        place = time * (max_fps or 1) + _FPS_TOLERANCE
        if max_fps is None or place >= due:
            due = int(place) + 1
            yield time, frame


def _cut(stamped: Iterator[tuple[float, Frame]], start: float, end: float) -> Iterator[tuple[float, Frame]]:
    """The frames from ``start`` to before ``end``; times count from the first of them."""
    first, time, step = None, -1.0, 0.0
    for now, frame in stamped:
        time, step = now, now - time if time >= 0 else 0.0
        if time >= end - _STAMP_TOLERANCE_SEC:
            break
        if time >= start - _STAMP_TOLERANCE_SEC:
            first = time if first is None else first
            yield time - first, frame
    if first is None or time + step < start + _MIN_DECODED_FRAC * (end - start):
        raise DecodeError(
            f"segment {start:.2f}–{end:.2f} s is not there: frames end after {time + step:.2f} s"
        )


def pick(frames: Iterable[Frame], choose: Callable[[int], Iterable[int]]) -> Iterator[Frame]:
    """Those of the ``frames`` that ``choose(number of frames)`` names; all are held in memory.

    >>> list(pick("abcd", lambda count: (0, count - 1)))
    ['a', 'd']
    """
    held = list(frames)
    return (held[number] for number in choose(len(held)))


def read_chosen(
    path: str | Path,
    choose: Callable[[int], Iterable[int]],
    *,
    short_side: int | None = None,
    segment: tuple[float, float] | None = None,
    deliver: Deliver = at_once,
) -> ChosenFrames:
    """Decodes a video, but converts and keeps only the frames that ``choose(number of frames)`` names.

    Memory is that of the chosen frames, however long the video is. A ``segment`` (see ``iter_frames``) is decoded
    twice: how many frames it has is known only then. ``deliver`` says what to return in place of pixels.

    Raises:
      DecodeError: as ``iter_frames``.
    """
    expected = max(1, _count_packets(path))
    while True:
        numbers = list(choose(expected))
        wanted = set(numbers)
        convert, count = rgb_converter(short_side), 0
        kept: dict[int, tuple[float, Any]] = {}
        for time, frame in choose_frames(_decode(path, segment[0] if segment else 0.0), None, segment):
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


def _decode(path: str | Path, start: float = 0.0) -> Iterator[tuple[float, av.VideoFrame]]:
    """Yields (seconds since the first frame, frame), in order, without the frames that arrived damaged.

    Frames before ``start`` (seconds) may be missing.
    """
    time, first = 0.0, None
    seek = _find_seek(path, start) if start > 0 else None
    with _open(path) as container:
        stream = container.streams.video[0]
        step = float(1 / stream.average_rate) if stream.average_rate else 1.0
        try:
            if seek is not None:
                first, offset = seek
                container.seek(offset, stream=stream)
            for number, frame in enumerate(container.decode(stream)):
                if frame.is_corrupt:
                    continue
                stamp = frame.time if frame.time is not None else number * step
                first = stamp if first is None else first
                time = stamp - first
                yield time, frame
        except av.error.FFmpegError as error:
            raise DecodeError(f"breaks off after {time:.1f} s: {error.strerror}") from error
        if first is None:
            raise DecodeError("holds no frame that decodes")
        stated = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else 0.0
        if time + step < _MIN_DECODED_FRAC * stated:
            raise DecodeError(f"truncated: frames end after {time + step:.1f} of {stated:.1f} s")


def _find_seek(path: str | Path, start: float) -> tuple[float, int] | None:
    """The time stamp of the first frame, and where to seek to so as to decode from the key frame before ``start``.

    None: this file cannot be sought in, or seeking lands behind ``start``.
    """
    with _open(path) as container, contextlib.suppress(av.error.FFmpegError):
        if not container.format.name.startswith(_SEEKABLE):
            return None
        stream = container.streams.video[0]
        stamps = (frame.time for frame in container.decode(stream) if not frame.is_corrupt)
        if (first := next(stamps, None)) is not None and stream.time_base:
            offset = int((first + start) / stream.time_base)
            container.seek(offset, stream=stream)
            landed = next((frame.time for frame in container.decode(stream)), None)
            if landed is not None and landed <= first + start:
                return first, offset
    return None


def _open(path: str | Path) -> av.container.InputContainer:
    try:
        if os.path.getsize(path) == 0:
            raise DecodeError("empty file")
        # Only local files: a playlist that is named like a video must not reach out to the network.
        container = av.open(os.fspath(path), options={"protocol_whitelist": "file"})
    except (av.error.FFmpegError, OSError) as error:
        raise DecodeError(f"not a readable video: {error.strerror}") from error
    if not container.streams.video:
        container.close()
        raise DecodeError("no video stream")
    # One thread: parallelism is over videos, and memory per decoder stays that of one.
    container.streams.video[0].codec_context.thread_count = 1
    return container


def _count_packets(path: str | Path) -> int:
    with _open(path) as container:
        try:
            return sum(packet.size > 0 for packet in container.demux(video=0))
        except av.error.FFmpegError as error:
            raise DecodeError(f"breaks off: {error.strerror}") from error


def decoded_bytes(frame: av.VideoFrame) -> int:
    """Memory of a decoded frame that is not yet converted."""
    return sum(plane.buffer_size for plane in frame.planes)


def rgb_converter(short_side: int | None) -> Callable[[av.VideoFrame], np.ndarray]:
    """Makes frames upright RGB images ``[H, W, 3]`` uint8, all of the size that the first one sets.

    Raises:
      DecodeError: the converter does not know the pixel format.
    """
    # One for the whole video, and one thread: set up per frame or over threads, it costs ten times the conversion.
    to_rgb = partial(VideoReformatter().reformat, format="rgb24", threads=1)
    fit = same_size(short_side)

    def convert(frame: av.VideoFrame) -> np.ndarray:
        try:
            pixels = to_rgb(frame).to_ndarray()
        except (av.error.FFmpegError, ValueError) as error:
            raise DecodeError(f"pixel format {frame.format.name} does not convert to RGB") from error
        return fit(np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90) % 4)))

    return convert


def same_size(short_side: int | None) -> Callable[[np.ndarray], np.ndarray]:
    """Resizes images ``[H, W, 3]`` uint8 one after the other to the size that the first sets with ``short_side``."""
    size: tuple[int, int] | None = None

    def fit(image: np.ndarray) -> np.ndarray:
        nonlocal size
        if size is None:
            height, width = image.shape[:2]
            size = (height, width) if short_side is None else scaled_to_short_side(height, width, short_side)
        return resize(image, *size)

    return fit

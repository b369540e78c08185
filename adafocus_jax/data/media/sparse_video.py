"""Some frames of an H.264 file, without decoding those that neither the caller nor any other frame needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial

import av

from adafocus_jax.data.media.container import open_video, pixel_aspect
from adafocus_jax.data.media.frames import Deliver, Frame, at_once
from adafocus_jax.data.media.limits import ReadLimits
from adafocus_jax.data.media.picture import decoded_bytes, rgb_converter

_MAX_BYTES = 64 * 2**20  # of a file that is held in memory


class UnusualVideoError(Exception):
    """A file that ``video.read_chosen`` must read."""


def iter_sparse(
    path: str,
    choose: Callable[[int], Iterable[int]],
    *,
    short_side: int,
    limits: ReadLimits | None = None,
    deliver: Deliver = at_once,
) -> Iterator[Frame]:
    """Yields the chosen frames, exactly those of ``video.read_chosen``, in less time and one at a time.

    Frames that others are predicted from are all decoded. Of the rest, in most files about half, only the wanted
    ones are. The file is held in memory.

    Args:
      path: the file.
      choose: from the number of frames to the numbers wanted, each once, increasing.
      short_side: of the frames in pixels.
      limits: how large the video may be; None: the defaults.
      deliver: what to yield in place of pixels that are converted later.

    Raises:
      UnusualVideoError: the file is of another codec, large, interlaced, damaged or in any way unusual, which may
        show only when some frames were yielded.
      DecodeError: it does not open, passes a limit, or its pixels do not convert.
    """
    limits = limits or ReadLimits()
    with open_video(path, limits) as (container, stream):
        convert = rgb_converter(short_side, pixel_aspect(stream), limits)
        packets = _packets(container, stream, limits)
        stamps = _stamps(packets)
        if not stamps or len(stamps) != stream.frames:
            raise UnusualVideoError(path)
        second = float(stream.time_base or 1)
        limits.check_length(len(stamps), (stamps[-1] - stamps[0]) * second)
        numbers = list(choose(len(stamps)))
        frames = _decode(packets, {stamps[number] for number in numbers})
        for number in numbers:
            frame = next(frames, None)
            if frame is None or frame.pts != stamps[number] or frame.is_corrupt or frame.interlaced_frame:
                raise UnusualVideoError(path)
            pixels = deliver(partial(convert, frame), decoded_bytes(frame))
            yield Frame(number, (stamps[number] - stamps[0]) * second, pixels)


def _packets(
    container: av.container.InputContainer, stream: av.VideoStream, limits: ReadLimits
) -> list[av.Packet]:
    """All packets of the file; none where its codec is another."""
    if container.size > _MAX_BYTES:
        raise UnusualVideoError(container.name)
    # HEVC calls frames unreferenced that a higher layer refers to.
    if stream.codec_context.name != "h264":
        return []
    limits.check_packets(stream.frames)
    try:
        return list(container.demux(stream))
    except av.error.FFmpegError as error:
        raise UnusualVideoError(container.name) from error


def _stamps(packets: list[av.Packet]) -> list[int]:
    """The timestamps of the frames that are shown, in order."""
    shown = {packet.pts for packet in packets if packet.size and not packet.is_discard}
    return sorted(stamp for stamp in shown if stamp is not None)


def _decode(packets: list[av.Packet], wanted: set[int]) -> Iterator[av.VideoFrame]:
    """The frames whose timestamps are wanted, in order of showing."""
    decoder = packets[0].stream.codec_context
    try:
        for packet in packets:
            decoder.skip_frame = "DEFAULT" if packet.pts in wanted or not packet.size else "NONREF"
            yield from (frame for frame in packet.decode() if frame.pts in wanted)
    except av.error.FFmpegError as error:
        raise UnusualVideoError from error

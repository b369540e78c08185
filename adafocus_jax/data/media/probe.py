"""Whether a video is likely to be read, without decoding it: its first and last frames alone are."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import av

from adafocus_jax.data.media.container import open_video, pixel_aspect
from adafocus_jax.data.media.frame_folder import numbered_images, read_image
from adafocus_jax.data.media.frames import DecodeError
from adafocus_jax.data.media.limits import ReadLimits
from adafocus_jax.data.media.picture import rgb_converter
from adafocus_jax.data.media.video import Ending, check_segment, make_clock

_MAX_TAIL = 300  # packets behind the last key frame that are decoded


def probe_video(path: str | Path, segment: tuple[float, float] | None, limits: ReadLimits) -> None:
    """Reads a video file to its end, but decodes its first frame and those from its last key frame on alone.

    Raises:
      DecodeError: what ``iter_frames`` would raise for the same reason.
    """
    with open_video(path, limits) as (container, stream):
        convert = rgb_converter(None, pixel_aspect(stream), limits)
        clock, ending = make_clock(container, stream), Ending(container, stream)
        first: av.VideoFrame | None = None
        tail: list[av.Packet] = []
        num_packets = 0
        try:
            for packet in container.demux(ending.streams):
                if ending.is_other(packet) or not packet.size:
                    continue
                limits.check_packets(num_packets := num_packets + 1)
                if packet.dts is not None:
                    clock.show(
                        float(packet.dts * packet.time_base), float(packet.duration or 0) * packet.time_base
                    )
                limits.check_length(num_packets, clock.time_sec)
                if first is None and (frames := stream.decode(packet)):
                    first = frames[0]
                tail = [packet] if packet.is_keyframe else [*tail[-_MAX_TAIL:], packet]
            first = first or next(iter(stream.decode(None)), None)
            stream.codec_context.flush_buffers()
            behind = list(chain.from_iterable(stream.decode(packet) for packet in [*tail, None]))
        except av.error.FFmpegError as error:
            raise DecodeError(f"breaks off: {error.strerror}") from error
        if first is None or not behind:
            raise DecodeError("holds no frame that decodes")
        for frame in (first, behind[-1]):
            convert(frame)
        ending.check(clock)
        if segment is not None:
            check_segment(segment, clock.until_sec)


def probe_folder(
    folder: str | Path, frame_rate: float, segment: tuple[float, float] | None, limits: ReadLimits
) -> None:
    """Decodes the first and the last image of a folder of frames.

    Raises:
      DecodeError: what ``iter_folder`` would raise for the same reason.
    """
    images = numbered_images(folder)
    (first, _), (last, _) = images[0], images[-1]
    limits.check_length(len(images), (last - first) / frame_rate)
    for _, path in {*images[:1], *images[-1:]}:
        read_image(path, limits)
    if segment is not None:
        check_segment(segment, (last - first + 1) / frame_rate)

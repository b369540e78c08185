"""Some frames of an H.264 file, without decoding those that neither the caller nor any other frame needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from adafocus_jax.data.transforms import resize, scaled_to_short_side


def read_sparse(
    path: str, choose: Callable[[int], Iterable[int]], *, short_side: int
) -> list[np.ndarray] | None:
    """The chosen frames, exactly as ``decode.read_chosen`` yields them, in less time; None where that must do it.

    Frames that others are predicted from are all decoded. Of the rest, in most files about half, only the wanted
    ones are. A file that is of another codec, rotated, damaged or in any way unusual gives None.

    Args:
        path: the file.
        choose: from the number of frames to the numbers wanted, each once, increasing.
        short_side: of the frames in pixels.

    Returns:
        ``[H, W, 3]`` uint8 RGB each.
    """
    try:
        with av.open(path, options={"protocol_whitelist": "file"}) as container:
            if not (stamps := _stamps(container)):
                return None
            wanted = [stamps[number] for number in choose(len(stamps))]
            container.seek(0)
            kept = _decode(container, set(wanted))
    except (av.error.FFmpegError, OSError, IndexError):
        return None
    if len(kept) < len(wanted) or any(frame.is_corrupt or frame.rotation for frame in kept.values()):
        return None
    to_rgb = VideoReformatter().reformat
    height, width = scaled_to_short_side(kept[wanted[0]].height, kept[wanted[0]].width, short_side)
    images = (to_rgb(kept[stamp], format="rgb24", threads=1).to_ndarray() for stamp in wanted)
    return [resize(image, height, width) for image in images]


def _stamps(container: av.container.InputContainer) -> list[int] | None:
    """The timestamps of all frames in order of showing; None where those of the packets do not tell them."""
    stream = container.streams.video[0]
    if stream.codec_context.name != "h264":
        return None  # HEVC calls frames unreferenced that a higher layer refers to.
    shown = (packet for packet in container.demux(stream) if packet.size and not packet.is_discard)
    stamps = {packet.pts for packet in shown if packet.pts is not None}
    return sorted(stamps) if len(stamps) == stream.frames else None


def _decode(container: av.container.InputContainer, wanted: set[int]) -> dict[int, av.VideoFrame]:
    stream = container.streams.video[0]
    stream.codec_context.thread_count = 1  # Parallelism is over videos.
    kept = {}
    for packet in container.demux(stream):
        needed = packet.pts in wanted or not packet.size
        stream.codec_context.skip_frame = "DEFAULT" if needed else "NONREF"
        kept.update({frame.pts: frame for frame in packet.decode() if frame.pts in wanted})
    return kept

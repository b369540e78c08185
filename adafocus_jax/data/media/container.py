"""Opens video files: which containers and codecs are read, and which of a file's streams is the video.

A file's suffix is not trusted: FFmpeg looks at the content, and also knows text files that make it open other files
(``concat``, ``hls``, ``dash``, …). So containers and codecs are allowed by name, and files alone, no addresses.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import av
from av.stream import Disposition

from adafocus_jax.data.media.formats import CODECS, FORMATS
from adafocus_jax.data.media.frames import DecodeError
from adafocus_jax.data.media.limits import ReadLimits

# No picture is wider than high, or higher than wide, by more for the shape of its pixels.
_MAX_PIXEL_ASPECT = 16


@contextlib.contextmanager
def open_video(
    path: str | Path, limits: ReadLimits
) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    """Opens a file and finds its video: the stream that FFmpeg would play, never a cover picture.

    Raises:
      DecodeError: the file does not open, is of a container or codec that is not read, has no video stream, or its
        frames are larger than ``limits`` allow.
    """
    with _open(path, limits) as container:
        stream = cast("av.VideoStream | None", container.streams.best("video"))
        if stream is None or Disposition.attached_pic in Disposition(stream.disposition):
            raise DecodeError("no video stream")
        decoder = stream.codec_context
        if decoder is None or decoder.name not in CODECS:
            raise DecodeError(f"codec {decoder.name if decoder else 'unknown'} is not supported")
        limits.check_size(decoder.height, decoder.width)
        # One thread: parallelism is over videos, and memory per decoder stays that of one.
        decoder.thread_count = 1
        decoder.options = {"max_pixels": str(limits.max_pixels)}
        yield container, stream


def pixel_aspect(stream: av.VideoStream) -> float:
    """Width / height of the stream's pixels; 1 where it does not say.

    Raises:
      DecodeError: pixels of a shape that no video has.
    """
    aspect = float(stream.sample_aspect_ratio or 1)
    if not 1 / _MAX_PIXEL_ASPECT <= aspect <= _MAX_PIXEL_ASPECT:
        raise DecodeError(f"pixels of aspect ratio {stream.sample_aspect_ratio}: no video has such")
    return aspect


def _open(path: str | Path, limits: ReadLimits) -> av.container.InputContainer:
    try:
        if os.path.getsize(path) == 0:
            raise DecodeError("empty file")
        # The prefix: FFmpeg takes what stands before a colon in a name for a protocol.
        return av.open(
            f"file:{os.fspath(path)}",
            options={
                "protocol_whitelist": "file",
                "format_whitelist": ",".join(FORMATS),
                "codec_whitelist": ",".join(CODECS),
                "max_pixels": str(limits.max_pixels),
            },
            metadata_errors="ignore",  # Titles and the like are in any encoding, and not needed.
        )
    except av.error.ArgumentError as error:  # what a container is refused with that is not allowed
        raise DecodeError("not a readable video: of no container that is supported") from error
    except (av.error.FFmpegError, OSError) as error:
        raise DecodeError(f"not a readable video: {error.strerror}") from error

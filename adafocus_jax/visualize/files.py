"""Pictures as files: PNG, JPEG and mp4.

Imports neither JAX nor ``types``, so that spawned workers may encode.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from itertools import chain

import av
import cv2
import numpy as np

from adafocus_jax.io import StrPath, write_bytes, writing

_SMPTE170M = (
    6  # the matrix that swscale encodes with; untagged files larger than SD would be read with another
)


def png_bytes(image: np.ndarray) -> bytes:
    """An RGB ``uint8 [H, W, 3]`` image as the bytes of a PNG file.

    >>> png_bytes(np.zeros((2, 3, 3), np.uint8))[1:4]
    b'PNG'
    """
    return cv2.imencode(".png", image[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 6])[1].tobytes()


def jpeg_bytes(image: np.ndarray) -> bytes:
    """An RGB ``uint8 [H, W, 3]`` image as the bytes of a JPEG file, of a quality at which text stays clean.

    >>> jpeg_bytes(np.zeros((2, 3, 3), np.uint8))[:2].hex()
    'ffd8'
    """
    return cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()


def write_png(path: StrPath, image: np.ndarray) -> None:
    """Writes an RGB ``uint8 [H, W, 3]`` image as a PNG file."""
    write_bytes(path, png_bytes(image), durable=False)


def write_mp4(path: StrPath, frames: Iterable[np.ndarray], fps: float, *, crf: float = 18) -> None:
    """Writes one or more RGB ``uint8 [H, W, 3]`` frames, of even height and width, as an mp4 file.

    H.264 where PyAV brings x264, else MPEG-4 at its best quality. One thread and no clock in the file: equal
    frames give equal bytes. ``crf``: constant rate factor of H.264, 0 (lossless) … 51 (worst).
    """
    frames = iter(frames)
    first = next(frames)
    with (
        writing(path, durable=False) as partial,
        av.open(str(partial), "w", format="mp4", options={"movflags": "+faststart"}) as container,
    ):
        stream = _add_stream(container, first, fps, crf)
        for frame in chain([first], frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))


def _add_stream(
    container: av.container.OutputContainer, frame: np.ndarray, fps: float, crf: float
) -> av.VideoStream:
    x264 = "libx264" in av.codecs_available
    # With its macroblock tree, x264 gives other bytes from run to run even on one thread (small frames).
    options = {"crf": str(crf), "preset": "veryfast", "mbtree": "0"} if x264 else {"qmin": "2", "qmax": "2"}
    rate = Fraction(fps).limit_denominator(1001)
    stream = container.add_stream("libx264" if x264 else "mpeg4", rate=rate, options=options)
    stream.height, stream.width = frame.shape[:2]
    stream.pix_fmt = "yuv420p"
    stream.codec_context.thread_count = 1
    stream.codec_context.colorspace = _SMPTE170M
    return stream

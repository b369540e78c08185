"""Frames and images to RGB as a viewer sees them: upright, with square pixels, of standard range, all of one size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from adafocus_jax.data.media.frames import DecodeError
from adafocus_jax.data.media.limits import ReadLimits
from adafocus_jax.data.media.orientation import UPRIGHT, Orientation, of_display_matrix
from adafocus_jax.data.media.resize import resize, scaled_to_short_side
from adafocus_jax.data.media.tone_mapping import HLG, PQ, to_standard_range


def rgb_converter(
    short_side: int | None, pixel_aspect: float, limits: ReadLimits
) -> Callable[[av.VideoFrame], np.ndarray]:
    """Makes frames RGB images ``[H, W, 3]`` uint8, all of the size that the first one sets.

    ``pixel_aspect``: width / height of the pixels as they are stored, before the frame is turned upright.

    Raises:
      DecodeError: the converter does not know the pixel format, or a frame is too large.
    """
    # One for the whole video, and one thread: set up per frame or over threads, it costs ten times the conversion.
    reformat = VideoReformatter().reformat
    fit = same_size(short_side, limits)

    def convert(frame: av.VideoFrame) -> np.ndarray:
        is_hdr = frame.color_trc in (PQ, HLG)
        try:
            # Standard range from 8 bits of high dynamic range would show bands.
            pixels = reformat(frame, format="rgb48le" if is_hdr else "rgb24", threads=1).to_ndarray()
        except (av.error.FFmpegError, ValueError) as error:
            raise DecodeError(f"pixel format {frame.format.name} does not convert to RGB") from error
        image = fit(pixels, _orientation(frame), pixel_aspect)
        return to_standard_range(image, int(frame.color_trc)) if is_hdr else image

    return convert


def decoded_bytes(frame: av.VideoFrame) -> int:
    """Memory of a decoded frame that is not yet converted."""
    return sum(plane.buffer_size for plane in frame.planes)


def same_size(short_side: int | None, limits: ReadLimits | None = None) -> Callable[..., np.ndarray]:
    """Makes images ``[H, W, 3]`` upright, and all of the size that the first sets with ``short_side``.

    ``fit(image, orientation, pixel_aspect)``: pixels that are stored ``pixel_aspect`` times as wide as high make the
    picture wider by that.

    Raises:
      DecodeError: the first image is larger than ``limits`` allow.
    """
    most = limits or ReadLimits()
    size: tuple[int, int] | None = None

    def fit(image: np.ndarray, orientation: Orientation = UPRIGHT, pixel_aspect: float = 1.0) -> np.ndarray:
        nonlocal size
        if size is None:
            shape = image.shape[0], max(1, round(image.shape[1] * pixel_aspect))
            height, width = shape[::-1] if orientation.transpose else shape
            most.check_size(height, width)
            size = (height, width) if short_side is None else scaled_to_short_side(height, width, short_side)
            most.check_size(*size)
        return resize(np.ascontiguousarray(orientation.apply(image)), *size)

    return fit


def _orientation(frame: av.VideoFrame) -> Orientation:
    matrix: Any = frame.side_data.get("DISPLAYMATRIX")
    return UPRIGHT if matrix is None else of_display_matrix(bytes(matrix))

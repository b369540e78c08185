"""Folders of numbered images, the form in which Something-Something and Jester come."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import simplejpeg

from adafocus_jax.data.media.frames import DecodeError, Deliver, Shown, at_once
from adafocus_jax.data.media.kinds import image_number
from adafocus_jax.data.media.limits import ReadLimits
from adafocus_jax.data.media.orientation import UPRIGHT, Orientation, of_jpeg
from adafocus_jax.data.media.picture import same_size
from adafocus_jax.data.media.video import choose_frames, pick


def iter_folder(
    folder: str | Path,
    frame_rate: float,
    *,
    short_side: int | None = None,
    max_fps: float | None = None,
    segment: tuple[float, float] | None = None,
    choose: Callable[[int], Iterable[int]] | None = None,
    limits: ReadLimits | None = None,
    deliver: Deliver = at_once,
) -> Iterator[tuple[float, Any]]:
    """Yields ``(time in seconds, frame [H, W, 3] uint8 RGB)`` of a folder of images, by number, all of one size.

    Image n stands (n − first number) / ``frame_rate`` seconds after the first: images that are not there leave a
    gap. ``image_00001.jpg``, ``img_00001.jpg``, ``000001.jpg``, ``7.png``: any images of one series do
    (``kinds.IMAGE_SUFFIXES``), those of optical flow aside. What their Exif data say of their orientation is done.

    Args:
      folder: of images.
      frame_rate: in frames per second.
      short_side: of the frames in pixels; None keeps the size.
      max_fps: images are dropped to at most this rate; None keeps all.
      segment: start and end in seconds.
      choose: from the number of images, of those that the rest leaves, to the ones to decode; None: all.
      limits: how large the video may be; None: the defaults.
      deliver: what to yield in place of pixels that are made later.

    Raises:
      DecodeError: no images, images of several series, one that does not decode or is too large; or the segment
        reaches out.
    """
    limits = limits or ReadLimits()
    fit = same_size(short_side, limits)

    def pixels(path: str) -> np.ndarray:
        return fit(*read_image(path, limits))

    images = numbered_images(folder)
    first = images[0][0]
    limits.check_length(len(images), (images[-1][0] - first) / frame_rate)
    shown = (
        Shown((number - first) / frame_rate, (number - first + 1) / frame_rate, path)
        for number, path in images
    )
    left = choose_frames(shown, max_fps, segment)
    for time, path in pick(left, choose) if choose else left:
        yield time, deliver(partial(pixels, path), 0)


def numbered_images(folder: str | Path) -> list[tuple[int, str]]:
    """The numbers and paths of the images in a folder, by number.

    Raises:
      DecodeError: none, or of several series, or two of one number.
    """
    try:
        names = os.listdir(folder)
    except OSError as error:
        raise DecodeError(f"not a readable folder: {error.strerror}") from error
    named = {name: found for name in names if (found := image_number(name))}
    if len(series := sorted({series for series, _ in named.values()})) != 1:
        several = (
            f"has images of several series: {', '.join(series)}" if series else "holds no numbered images"
        )
        raise DecodeError(several)
    images = sorted((number, os.path.join(folder, name)) for name, (_, number) in named.items())
    if len({number for number, _ in images}) < len(images):
        raise DecodeError("has two images of the same number")
    return images


def read_image(path: str, limits: ReadLimits) -> tuple[np.ndarray, Orientation]:
    """Decodes an image: ``[H, W, 3]`` uint8 RGB, and how it is still to be turned.

    Raises:
      DecodeError: it does not open or decode, or is too large.
    """
    name = os.path.basename(path)
    try:
        with open(path, "rb") as file:
            data = file.read()
        if path.lower().endswith((".jpg", ".jpeg")):
            limits.check_size(*simplejpeg.decode_jpeg_header(data)[:2])
            return simplejpeg.decode_jpeg(data), of_jpeg(data)
        if size := _size(data):
            limits.check_size(*size)
        # OpenCV turns these as their Exif data say.
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB) if size else None
    except (OSError, ValueError, cv2.error) as error:
        raise DecodeError(f"{name} does not decode: {error}") from error
    if pixels is None:
        raise DecodeError(f"{name} does not decode")
    return pixels, UPRIGHT


def _size(data: bytes) -> tuple[int, int] | None:
    """Height and width in pixels that the head of a PNG, BMP or WebP file states; None: it is none of them."""
    if data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) >= 24:
        width, height = struct.unpack_from(">II", data, 16)
    elif data[:2] == b"BM" and len(data) >= 26:
        width, height = struct.unpack_from("<ii", data, 18)
    elif data[:4] == b"RIFF" and data[8:15] == b"WEBPVP8" and len(data) >= 30:
        match data[15:16]:
            case b"X":
                width, height = (1 + int.from_bytes(data[at : at + 3], "little") for at in (24, 27))
            case b"L":
                bits = int.from_bytes(data[21:25], "little")
                width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
            case _:
                width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
    else:
        return None
    return abs(height), abs(width)

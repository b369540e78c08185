"""Folders of numbered images, the form in which Something-Something and Jester come."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import simplejpeg

from adafocus_jax.data.media.frames import Deliver, at_once
from adafocus_jax.data.media.kinds import image_number
from adafocus_jax.data.media.video import DecodeError, choose_frames, pick, same_size


def iter_folder(
    folder: str | Path,
    frame_rate: float,
    *,
    short_side: int | None = None,
    max_fps: float | None = None,
    segment: tuple[float, float] | None = None,
    choose: Callable[[int], Iterable[int]] | None = None,
    deliver: Deliver = at_once,
) -> Iterator[tuple[float, Any]]:
    """Yields ``(time in seconds, frame [H, W, 3] uint8 RGB)`` of a folder of images, by number, all of one size.

    Image n stands (n − first number) / ``frame_rate`` seconds after the first: images that are not there leave a
    gap. ``image_00001.jpg``, ``img_00001.jpg``, ``000001.jpg``, ``7.png``: any JPEG or PNG files of one series do,
    images of optical flow aside. ``choose(number of images)``, of those that the rest leaves, names the ones to decode.

    Raises:
      DecodeError: no images, images of several series, or one that does not decode; or the segment reaches out.
    """
    fit = same_size(short_side)

    def pixels(path: str) -> np.ndarray:
        return fit(_read_image(path))

    images = _numbered_images(folder)
    first = images[0][0]
    stamped = (((number - first) / frame_rate, path) for number, path in images)
    left = choose_frames(stamped, max_fps, segment)
    for time, path in pick(left, choose) if choose else left:
        yield time, deliver(partial(pixels, path), 0)


def _numbered_images(folder: str | Path) -> list[tuple[int, str]]:
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


def _read_image(path: str) -> np.ndarray:
    with open(path, "rb") as file:
        data = file.read()
    if path.lower().endswith(".png"):
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB) if data else None
        if pixels is None:
            raise DecodeError(f"{os.path.basename(path)} does not decode")
        return pixels
    try:
        return simplejpeg.decode_jpeg(data)
    except ValueError as error:
        raise DecodeError(f"{os.path.basename(path)} does not decode: {error}") from error

"""The eight ways in which a picture may be stored, and how it is turned upright."""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np


class Orientation(NamedTuple):
    """How a stored picture becomes upright: first swap its axes, then mirror it."""

    transpose: bool = False
    mirror_columns: bool = False
    """Left becomes right, after ``transpose``."""
    mirror_rows: bool = False
    """Top becomes bottom, after ``transpose``."""

    def apply(self, image: np.ndarray) -> np.ndarray:
        """Turns ``image [H, W, ...]`` upright; a view."""
        image = image.swapaxes(0, 1) if self.transpose else image
        return image[:: -1 if self.mirror_rows else 1, :: -1 if self.mirror_columns else 1]


UPRIGHT = Orientation()

# Tag 274 of TIFF and Exif: where row 0 and column 0 of the stored picture are in the upright one.
_EXIF = {
    1: UPRIGHT,
    2: Orientation(False, True, False),
    3: Orientation(False, True, True),
    4: Orientation(False, False, True),
    5: Orientation(True, False, False),
    6: Orientation(True, True, False),
    7: Orientation(True, True, True),
    8: Orientation(True, False, True),
}
_ORIENTATION_TAG = 0x0112


def of_display_matrix(matrix: bytes) -> Orientation:
    """The orientation nearest to a display matrix of FFmpeg: nine int32, of which (a b / c d) turn and mirror.

    The point (x, y) of the stored picture is shown at (a·x + c·y, b·x + d·y).

    >>> of_display_matrix(struct.pack("=9i", 0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30))  # 90° clockwise
    Orientation(transpose=True, mirror_columns=True, mirror_rows=False)
    """
    a, b, _, c, d, *_ = struct.unpack_from("=9i", matrix)
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Orientation(False, a < 0, d < 0)
    return Orientation(True, c < 0, b < 0)


def of_jpeg(data: bytes) -> Orientation:
    """The orientation in the Exif data of a JPEG file; upright where there is none."""
    at = 2
    while data[at : at + 1] == b"\xff" and len(data) >= at + 4:
        marker, size = struct.unpack_from(">BH", data, at + 1)
        if marker in (0xD9, 0xDA):  # the end, or the picture
            break
        if marker == 0xE1 and data[at + 4 : at + 10] == b"Exif\0\0":
            return _of_tiff(data[at + 10 : at + 2 + size])
        at += 2 + size
    return UPRIGHT


def _of_tiff(data: bytes) -> Orientation:
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None or len(data) < 8:
        return UPRIGHT
    (at,) = struct.unpack_from(f"{order}I", data, 4)
    if at + 2 > len(data):
        return UPRIGHT
    (count,) = struct.unpack_from(f"{order}H", data, at)
    for entry in range(at + 2, min(at + 2 + 12 * count, len(data) - 11), 12):
        tag, _, _, value = struct.unpack_from(f"{order}HHIH", data, entry)
        if tag == _ORIENTATION_TAG:
            return _EXIF.get(value, UPRIGHT)
    return UPRIGHT

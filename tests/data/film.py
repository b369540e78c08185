"""Videos that say which frame is which, when, and which way up; and readers of what they say.

A frame carries its number as eight black or white blocks in its middle row, and a colour in each corner: red at the
top left, green at the top right, blue at the bottom left, yellow at the bottom right.
"""

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np

HEIGHT, WIDTH = 64, 96
"""Of an upright frame with square pixels."""
BITS = 8
TICK = Fraction(1, 1000)
CORNERS = {
    "top left": (255, 0, 0),
    "top right": (0, 255, 0),
    "bottom left": (0, 0, 255),
    "bottom right": (255, 255, 0),
}

MATRICES = {
    "upright": (1, 0, 0, 1),
    "90° clockwise": (0, 1, -1, 0),
    "180°": (-1, 0, 0, -1),
    "90° counterclockwise": (0, -1, 1, 0),
    "mirrored": (-1, 0, 0, 1),
    "upside down mirrored": (1, 0, 0, -1),
    "transposed": (0, 1, 1, 0),
    "transposed across": (0, -1, -1, 0),
}
"""The eight display matrices (a b / c d): the stored point (x, y) is shown at (a·x + c·y, b·x + d·y)."""

EXIF = dict(zip((1, 6, 3, 8, 2, 4, 5, 7), MATRICES, strict=True))
"""The same by the number that Exif has for them."""


def picture(number: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Frame ``number`` as a viewer is to see it, ``[H, W, 3]`` uint8."""
    image = np.full((height, width, 3), 90, np.uint8)
    block, row, corner = width // BITS, height // 2, height // 4
    for bit in range(BITS):
        image[row - height // 8 : row + height // 8, bit * block : (bit + 1) * block] = 255 * (
            number >> bit & 1
        )
    for place, colour in CORNERS.items():
        rows = slice(corner) if "top" in place else slice(-corner, None)
        columns = slice(corner) if "left" in place else slice(-corner, None)
        image[rows, columns] = colour
    return image


def number(image: np.ndarray) -> int:
    """Which frame this is."""
    height, width = image.shape[:2]
    row = image[height // 2, [round((bit + 0.5) * width / BITS) for bit in range(BITS)]].mean(axis=-1)
    return sum(int(level > 127) << bit for bit, level in enumerate(row))


def numbers(images: Sequence[np.ndarray]) -> list[int]:
    """Which frames these are."""
    return [number(image) for image in images]


def is_upright(image: np.ndarray) -> bool:
    """Whether every corner has its colour."""
    height, width = image.shape[:2]
    rows, columns = (
        {"top": height // 8, "bottom": -(height // 8)},
        {"left": width // 12, "right": -(width // 12)},
    )
    for place, colour in CORNERS.items():
        row, column = place.split()
        seen = image[rows[row], columns[column]].astype(int)
        if not ((seen > 127) == (np.array(colour) > 127)).all():
            return False
    return True


def stored(
    image: np.ndarray, matrix: tuple[int, int, int, int] = (1, 0, 0, 1), aspect: Fraction = Fraction(1)
) -> np.ndarray:
    """What is to be stored so that ``matrix`` and pixels of ``aspect`` show ``image``."""
    a, b, c, d = matrix
    height, width = image.shape[:2] if a else image.shape[1::-1]
    y, x = np.mgrid[:height, :width]
    across, down = a * x + c * y, b * x + d * y
    turned = image[down - down.min(), across - across.min()]
    columns = ((np.arange(int(width / aspect)) + 0.5) * float(aspect)).astype(int)
    return np.ascontiguousarray(turned[:, columns])


def write(
    path: Path,
    times: Sequence[float],
    last_sec: float,
    *,
    codec: str = "libx264",
    format: str | None = None,
    first: int = 0,
    matrix: tuple[int, int, int, int] = (1, 0, 0, 1),
    aspect: Fraction = Fraction(1),
    pixels: str = "yuv420p",
    rate: Fraction | int | None = None,
    header: dict[str, str] | None = None,
    size: tuple[int, int] = (HEIGHT, WIDTH),
    title: str = "",
    **options: str,
) -> Path:
    """Writes frames ``first``, ``first`` + 1, … that are shown at ``times`` (seconds), the last for ``last_sec``."""
    frames = [stored(picture(first + i, *size), matrix, aspect) for i in range(len(times))]
    steps = [*(after - before for before, after in pairwise(times)), last_sec]
    with av.open(str(path), "w", format=format, options=header or {}) as container:
        container.metadata.update({"title": title} if title else {})
        rate = rate or Fraction(1 / steps[0]).limit_denominator(1000)
        stream = container.add_stream(codec, rate=rate, options=options)
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], pixels
        stream.codec_context.sample_aspect_ratio = aspect
        if not np.allclose(steps, float(1 / rate)):
            stream.codec_context.time_base = stream.time_base = TICK
        if matrix != (1, 0, 0, 1):
            a, b, c, d = (65536 * value for value in matrix)
            stream.set_display_matrix((a, b, 0, c, d, 0, 0, 0, 1 << 30))
        packets = []
        for time, pixels_rgb in zip(times, frames, strict=True):
            frame = av.VideoFrame.from_ndarray(pixels_rgb, format="rgb24")
            frame.time_base = TICK
            frame.pts = round(time / TICK)
            packets += stream.encode(frame)
        packets += stream.encode(None)
        if last_sec > 2 * steps[0]:
            max(packets, key=lambda packet: packet.pts).duration = round(last_sec / packets[-1].time_base)
        for packet in packets:
            container.mux(packet)
    return path

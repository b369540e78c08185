"""What the text of a compiled program (HLO) reveals: collectives between devices, and large gathers."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
LARGE_BYTES = 2**20
"""Gathers with smaller results are not reported."""
PIXELS = 128
"""A gather of fewer contiguous values per index reads pixels; one of more copies rows or frames."""


@dataclass(frozen=True)
class Collective:
    """All collectives of one kind in a program."""

    count: int
    bytes: int
    """Bytes of their results on one device."""


@dataclass(frozen=True)
class Gather:
    """One gather, with a result of ``LARGE_BYTES`` or more."""

    operand: str
    """Type and shape, such as ``u8[8,48,224,224,3]``."""
    result: str
    bytes: int
    """Bytes of the result."""
    slice_size: int
    """Values fetched at each index."""
    place: str
    """Path of the operation in the model."""

    @property
    def of_pixels(self) -> bool:
        """Whether values are fetched from all over, instead of whole rows or frames."""
        return self.slice_size < PIXELS


def shape_bytes(shapes: str) -> int:
    """Bytes of all arrays named in a piece of HLO, without the padding of layouts.

    >>> shape_bytes("(f32[2,3]{1,0:T(8,128)}, bf16[4], pred[])")
    33
    """
    return sum(
        -(-math.prod(map(int, filter(None, sizes.split(",")))) * _bits(dtype) // 8)
        for dtype, sizes in _SHAPE.findall(shapes)
    )


def collectives(text: str) -> dict[str, Collective]:
    """Kind to count and bytes. An operation inside a loop counts once."""
    found: dict[str, list[int]] = defaultdict(list)
    for kind, suffix, shapes, _ in _operations(text, COLLECTIVES):
        if suffix != "-start":  # its -done has the result alone
            found[kind].append(shape_bytes(shapes))
    return {kind: Collective(len(sizes), sum(sizes)) for kind, sizes in sorted(found.items())}


def large_gathers(text: str) -> list[Gather]:
    """Gathers of ``LARGE_BYTES`` or more, largest first."""
    shape_of = dict(_DEFINITION.findall(text))
    found = []
    for _, _, shapes, rest in _operations(text, ("gather",)):
        size = shape_bytes(shapes)
        if size < LARGE_BYTES:
            continue
        slices = re.search(r"slice_sizes=\{([\d,]+)\}", rest)
        place = re.search(r'op_name="([^"]*)"', rest)
        found.append(
            Gather(
                operand=next((shape_of[name] for name in _NAME.findall(rest) if name in shape_of), "?"),
                result=shapes.split("{")[0],
                bytes=size,
                slice_size=math.prod(map(int, slices[1].split(","))) if slices else 1,
                place=place[1] if place else "",
            )
        )
    return sorted(found, key=lambda gather: -gather.bytes)


def loops(text: str) -> list[int]:
    """Trip counts, known to the compiler, of loops that run more than once; what is in them is counted once."""
    return [int(n) for n in re.findall(r'"known_trip_count":\{"n":"(\d+)"', text) if int(n) > 1]


_SHAPE = re.compile(r"\b(pred|[a-z]+\d+[a-z0-9]*)\[([\d,]*)\]")
_NAME = re.compile(r"[\w.-]+")
_DEFINITION = re.compile(r"%?([\w.-]+) = ([a-z]+\d*[a-z0-9]*\[[\d,]*\])")


def _operations(text: str, kinds: tuple[str, ...]) -> Iterator[tuple[str, str, str, str]]:
    """Kind, "-start", "-done" or "", result shapes, and the rest of the line from the operands on."""
    pattern = re.compile(
        rf"^\s*(?:ROOT )?%?[\w.-]+ = (.+?) ({'|'.join(kinds)})(-start|-done)?\((.*)$", re.MULTILINE
    )
    for shapes, kind, suffix, rest in pattern.findall(text):
        yield kind, suffix, shapes, rest


def _bits(dtype: str) -> int:
    digits = re.search(r"\d+", dtype)
    return int(digits[0]) if digits else 8

"""Class names: what makes them good, and the files that list them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from adafocus_jax.data.datasets.list_files import read_lines
from adafocus_jax.data.media.names import normal
from adafocus_jax.errors import UserError

_NUMBERED = re.compile(r"(\d+)(?:\s*[,;]\s*|\s+)(.*\S)")


@dataclass(frozen=True)
class ClassFile:
    """What a class file says."""

    names: tuple[str, ...]
    """Class names, in the order of their numbers."""
    first: int | None = None
    """The number before the first name, which lists then count from; None: there are no numbers."""


def read_class_file(file: str | Path) -> ClassFile:
    """The class names in ``file``, one per line; blank lines do not count.

    Where every line begins with a number, and these are consecutive, the names are in the order of these.

    Raises:
      UserError: no such file, no names in it, or two that differ in case alone.
    """
    lines = [line.strip() for line in read_lines(file) if line.strip()]
    if not lines:
        raise UserError(f"the class file {file} is empty: it must hold one class name per line")
    numbered = sorted((int(found[1]), found[2]) for line in lines if (found := _NUMBERED.fullmatch(line)))
    if len(numbered) == len(lines):
        first = numbered[0][0]
        if [number for number, _ in numbered] == list(range(first, first + len(lines))):
            return ClassFile(check_classes([name for _, name in numbered], str(file)), first)
    return ClassFile(check_classes(lines, str(file)))


def read_classes(file: str | Path) -> tuple[str, ...]:
    """The names of ``read_class_file``, with the same errors."""
    return read_class_file(file).names


def check_classes(names: Iterable[str], where: str) -> tuple[str, ...]:
    """The names without outer spaces, in Unicode's composed form (NFC).

    Raises:
      UserError: two that differ in case, outer spaces or Unicode form alone; one that is blank or has a line break.
    """
    seen: dict[str, str] = {}
    for name in names:
        if (key := normal(name.strip()).casefold()) in seen:
            raise UserError(
                f"two classes of the same name in {where}: {seen[key]!r} and {name!r}; rename or merge them"
            )
        if "\n" in name or not key:
            raise UserError(f"a class name in {where} is blank or has a line break: {name!r}; rename it")
        seen[key] = name
    return tuple(normal(name.strip()) for name in seen.values())

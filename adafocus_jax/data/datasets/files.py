"""Annotation files: which there are, which split each is of, and what is in them."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from adafocus_jax.data.datasets.classes import ClassFile, read_class_file
from adafocus_jax.data.datasets.list_files import read_lines
from adafocus_jax.data.datasets.spec import Source
from adafocus_jax.data.media.names import is_hidden
from adafocus_jax.errors import UserError

_CLASS_FILE = re.compile(
    r"(.*class_?ind.*|categor(y|ies)|class(es|_names)|.*label_?map.*)\.txt", re.IGNORECASE
)
_SPLITS = ("train", "val", "test")


def find_source(videos: str | Path, annotations: str | Path | None) -> Source:
    """What is in ``annotations``: a folder, a file, or nothing.

    Raises:
      UserError: there is no such folder or file.
    """
    if not Path(videos).is_dir():
        raise UserError(f"no such folder of videos: {videos}")
    if annotations is None:
        return Source(Path(videos), None, ())
    place = Path(annotations)
    if not place.exists():
        raise UserError(f"no such folder or file of annotations: {place}")
    folder = place if place.is_dir() else place.parent
    files = sorted(path for path in folder.iterdir() if path.is_file() and not is_hidden(path.name))
    if not place.is_dir():
        files = [path for path in files if path == place or _CLASS_FILE.fullmatch(path.name)]
    return Source(Path(videos), place, tuple(files))


def find_file(source: Source, pattern: str) -> Path | None:
    """The one file whose whole name matches a regular expression, in any case; several are a ``UserError``."""
    found = [path for path in source.files if re.fullmatch(pattern, path.name, re.IGNORECASE)]
    if len(found) > 1:
        raise UserError(f"{found[0]} and {found[1].name} are two of a kind: keep one in the folder")
    return found[0] if found else None


def find_split_files(source: Source, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """The files of each split, by the words train, val and test in their names; two of one split are a ``UserError``.

    Files named ``missing_…`` and ``…flow…``, which the preparation scripts of TSM write beside the lists, do not count.
    """
    found: dict[str, Path] = {}
    for path in source.files:
        name = path.name.lower()
        split = next((split for split in _SPLITS if split in path.stem.lower()), None)
        if split is None or path.suffix.lower() not in suffixes or "missing" in name or "flow" in name:
            continue
        if split in found:
            raise UserError(
                f"{found[split]} and {path.name} both look like the split {split}: keep one in the folder"
            )
        found[split] = path
    return found


def split_of(text: str, where: str) -> str:
    """``train``, ``val`` or ``test`` for what annotation files call them.

    >>> split_of("validation", "list.csv, line 1"), split_of("Training", "list.csv, line 1")
    ('val', 'train')
    """
    split = next((split for split in _SPLITS if text.lower().startswith(split)), None)
    if split is None:
        raise UserError(f"{where}: {text!r} is not a split: it must be train, val or test")
    return split


def find_class_file(source: Source) -> ClassFile | None:
    """The class file (``classInd.txt``, ``category.txt``, ``kinetics_label_map.txt`` …), if there is one."""
    file = find_file(source, _CLASS_FILE.pattern)
    return None if file is None else read_class_file(file)


def find_classes(source: Source) -> tuple[str, ...] | None:
    """The names in the class file, if there is one."""
    found = find_class_file(source)
    return found.names if found else None


@contextlib.contextmanager
def official_form(where: object) -> Iterator[None]:
    """Makes a ``UserError`` of the errors that reading a file of another form ends in."""
    try:
        yield
    except UserError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{where}: not in the official form ({error!r}): fetch the file again") from error


def read_json(file: Path) -> Any:
    """The content of a JSON file; a ``UserError`` if it is none."""
    try:
        return json.loads("\n".join(read_lines(file)))
    except json.JSONDecodeError as error:
        raise UserError(f"{file} is not JSON: {error}; fetch it again") from error

"""Text files that list videos and labels: their lines, their fields, and paths that must not lead out."""

from __future__ import annotations

import csv
import difflib
import os
from collections.abc import Sequence
from pathlib import Path

from adafocus_jax.errors import UserError


def read_rows(list_file: str | Path) -> list[tuple[int, list[str]]]:
    """``(line number, fields)`` of the lines that are not blank.

    The delimiter is the first of tab, semicolon, comma and space that every line has. Fields may be quoted as in
    CSV; outer spaces and empty fields are dropped.

    Raises:
      UserError: the file does not open, is not UTF-8 text, or has quotes that do not close.
    """
    lines = [(number, line) for number, line in enumerate(read_lines(list_file), 1) if line.strip()]
    texts = [line.strip() for _, line in lines]
    for delimiter in "\t;, ":
        if all(delimiter in text for text in texts):
            break
    try:
        parsed = list(csv.reader(texts, delimiter=delimiter, skipinitialspace=True))
        rows = [(number, row) for (number, _), row in zip(lines, parsed, strict=True)]
    except (csv.Error, ValueError) as error:
        raise UserError(
            f"{list_file} is not a list of path,label lines (unbalanced quotes?): {error}"
        ) from error
    rows = [(number, [field.strip() for field in row if field.strip()]) for number, row in rows]
    return [(number, fields) for number, fields in rows if fields]


def read_lines(file: str | Path) -> list[str]:
    """The lines of a UTF-8 text file, with or without byte order mark, of Unix or Windows."""
    try:
        return Path(file).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = (
            "is not UTF-8 text"
            if isinstance(error, UnicodeDecodeError)
            else f"does not open ({error.strerror})"
        )
        raise UserError(f"{file} {reason}: give a text file") from error


def name_below(path: str, root: Path, where: str) -> str:
    """The path relative to ``root``, with ``/``; if it is not below, a ``UserError`` that names ``where``.

    Only the text counts: links that the owner of the folder set are trusted.

    >>> name_below("run/../walk/1.mp4", Path("videos"), "list.csv, line 1")
    'walk/1.mp4'
    """
    whole = os.path.normpath(os.path.join(os.path.abspath(root), path))
    name = os.path.relpath(whole, os.path.abspath(root))
    if name.split(os.sep)[0] in ("..", "."):
        raise UserError(f"{where}: {path} is not a file below {root}; paths must stay in the video folder")
    return Path(name).as_posix()


def label_choices(text: str, classes: Sequence[str]) -> str:
    """What a label may be, for messages, with the nearest class name to ``text``."""
    guess = difflib.get_close_matches(text, classes, 1)
    hint = f"; did you mean {guess[0]!r}?" if guess else ""
    return f"valid are the numbers 0…{len(classes) - 1}, or all labels by name, such as {classes[0]!r}{hint}"

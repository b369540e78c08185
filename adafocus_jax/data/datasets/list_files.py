"""Text files that list videos and labels: their lines, their fields, and paths that must not lead out."""

from __future__ import annotations

import codecs
import csv
import difflib
import os
import re
from collections.abc import Sequence
from pathlib import Path

from adafocus_jax.data.media.formats import VIDEO_SUFFIXES, VOLUME_SUFFIXES
from adafocus_jax.errors import UserError

_DELIMITERS = "\t;, "
_SUFFIXES = "|".join(map(re.escape, (*VIDEO_SUFFIXES, *VOLUME_SUFFIXES)))
# A path ends with the last suffix of a video, whatever signs it holds; of folders, before the numbers of the line.
_FILE = re.compile(rf'.*(?:{_SUFFIXES})(?=["{_DELIMITERS}]|$)', re.IGNORECASE)
_FOLDER = re.compile(r"(?P<path>\S.*?)(?P<numbers>(\s+-?\d+(\.\d+)?)+)")

_BYTE_ORDER_MARKS = (  # UTF-32 first: its mark begins with that of UTF-16
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_rows(list_file: str | Path, *, path_first: bool = True) -> list[tuple[int, list[str]]]:
    """``(line number, fields)`` of the lines that are not blank.

    The delimiter is the first of tab, semicolon, comma and space that every line has behind its path. Fields may be
    quoted as in CSV; outer spaces and empty fields are dropped. A path may hold any sign, also the delimiter, if it
    ends with the suffix of a video, or if what follows is numbers alone; not so where ``path_first`` is False.

    Raises:
      UserError: the file does not open, is not text, or has quotes that do not close.
    """
    lines = [(number, line.strip()) for number, line in enumerate(read_lines(list_file), 1) if line.strip()]
    for delimiter in _DELIMITERS:
        if all(delimiter in (_behind_path(text) if path_first else text) for _, text in lines):
            break
    rows = []
    for number, text in lines:
        try:
            fields = [field.strip() for field in (_fields if path_first else _split)(text, delimiter)]
        except csv.Error as error:
            raise UserError(
                f"{list_file}, line {number} is not of the form path,label (unbalanced quotes?): {error}"
            ) from error
        if fields := [field for field in fields if field]:
            rows.append((number, fields))
    return rows


def _behind_path(text: str) -> str:
    found = _FILE.match(text)
    return text[found.end() :] if found and found.end() < len(text) else text


def _fields(text: str, delimiter: str) -> list[str]:
    if not text.startswith('"'):
        if found := _FILE.match(text):
            return [found[0], *_split(text[found.end() :], delimiter)]
        if delimiter == " " and (found := _FOLDER.fullmatch(text)):
            return [found["path"], *found["numbers"].split()]
    return _split(text, delimiter)


def _split(text: str, delimiter: str) -> list[str]:
    return next(csv.reader([text], delimiter=delimiter, skipinitialspace=True, strict=True), [])


def read_lines(file: str | Path) -> list[str]:
    """The lines of a text file in UTF-8 or UTF-16, with or without byte order mark, of Unix, Windows or old Macs.

    Raises:
      UserError: the file does not open, or is not text.
    """
    try:
        data = Path(file).read_bytes()
        text = data.decode(_encoding(data))
    except OSError as error:
        raise UserError(f"{file} does not open ({error.strerror}): give a text file") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{file} is not UTF-8 or UTF-16 text (byte {error.object[error.start]:#04x} in line {line}): "
            "save it as UTF-8"
        ) from error
    if "\0" in text:
        raise UserError(f"{file} is not UTF-8 or UTF-16 text, but has zero bytes: give a text file")
    lines = re.split("\r\n|\n|\r", text)  # not splitlines: names may hold U+2028 and the like
    return lines[:-1] if not lines[-1] else lines


def _encoding(data: bytes) -> str:
    for mark, encoding in _BYTE_ORDER_MARKS:
        if data.startswith(mark):
            return encoding
    # Latin letters in UTF-16 are pairs with a zero.
    zeros = [data[start : start + 200 : 2].count(0) for start in (0, 1)]
    if zeros[0] != zeros[1] and max(zeros) > len(data[:200]) // 4:
        return "utf-16-be" if zeros[0] > zeros[1] else "utf-16-le"
    return "utf-8"


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


def label_choices(text: str, classes: Sequence[str], first: int = 0) -> str:
    """What a label may be, for messages, with the nearest class name to ``text``; ``first``: the first number."""
    guess = difflib.get_close_matches(text, classes, 1)
    hint = f"; did you mean {guess[0]!r}?" if guess else ""
    numbers = f"{first}…{first + len(classes) - 1}"
    return f"valid are the numbers {numbers}, or all labels by name, such as {classes[0]!r}{hint}"

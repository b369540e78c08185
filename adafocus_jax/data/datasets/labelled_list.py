"""Lists of one's own: files of ``path,label`` lines, and what their columns and numbers mean."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Container, Mapping, Sequence
from pathlib import Path

from adafocus_jax.data.datasets.classes import ClassFile
from adafocus_jax.data.datasets.entry import Entry
from adafocus_jax.data.datasets.list_files import label_choices, name_below, read_rows
from adafocus_jax.data.media.names import StoredNames, normal
from adafocus_jax.errors import UserError

log = logging.getLogger(__name__)

COLUMNS = ("path", "frames", "start", "end", "label", "-")
"""What a column of a list may be; ``frames``, the number of frames, and ``-`` are not used."""

_WORDS = {
    "path": r"path|file|file_?names?|videos?|(video|youtube)_?(path|name|id)|clip|name|id",
    "frames": r"(num_?|n_?|total_?)?(of_?)?frames|frame_?(count|num)|length",
    "start": r"start|(start|begin)_?(time|sec)|time_?start",
    "end": r"end|end_?(time|sec)|time_?end",
    "label": r"labels?|class(es)?|class_?(id|name|label)|label_?(id|name)|category|target|action",
}
_COUNT = re.compile(r"[1-9]\d*")

Rows = list[tuple[int, list[str]]]


def read_list(list_file: str | Path, root: str | Path, classes: Sequence[str] | ClassFile) -> list[Entry]:
    """The videos of one list: see ``read_lists_of``."""
    found = classes if isinstance(classes, ClassFile) else ClassFile(tuple(classes))
    return read_lists_of({Path(list_file): Path(root)}, found)[0]


def read_lists_of(
    lists: Mapping[Path, Path], classes: ClassFile, columns: Sequence[str] | None = None
) -> list[list[Entry]]:
    """The videos of lists of ``path,label[,label…]`` lines, one list of entries each.

    Comma, semicolon, tab or space: the first of tab, semicolon, comma and space that every line has behind its path. A
    header line may come first. Labels are all class names, or all numbers from 0, or from where the class file
    counts. A second column that is no label in every line, and a count in all, is the number of frames.

    Args:
      lists: from each list file to the folder that its paths are relative to.
      classes: the classes, and which numbers they have.
      columns: what the columns are, of ``COLUMNS``; the last ``label`` may be repeated. None: what the header says, or
        else what the lines allow.

    Raises:
      UserError: with file and line: a path that is missing, listed twice or outside its folder; a label that is
        not in ``classes``; a line without label; columns of which nothing tells what they are.
    """
    if columns is not None:
        check_columns(columns)
    names = {name: number for number, name in enumerate(classes.names)}
    tables = []
    for file, root in lists.items():
        if not root.is_dir():
            raise UserError(f"no such folder: {root}")
        rows, header = _without_header(read_rows(file), root, names)
        if (columns or header or ["path"])[0] != "path":
            rows = _without_header(read_rows(file, path_first=False), root, names)[0]
        if not rows:
            raise UserError(f"the list {file} names no videos: it must hold lines of path,label")
        order = columns or header or _guess_columns(file, rows, classes)
        tables.append([ListRow(f"{file}, line {line}", fields, order, names) for line, fields in rows])
    by_name = [all(label in names for row in table for label in row.labels) for table in tables]
    told = zip(tables, by_name, strict=True)
    numbers = class_numbers(
        classes, [label for table, named in told if not named for row in table for label in row.labels]
    )
    return [
        _entries(root, table, classes, names if named else numbers)
        for root, table, named in zip(lists.values(), tables, by_name, strict=True)
    ]


class ListRow:
    """A line of a list, by column."""

    def __init__(
        self, where: str, fields: Sequence[str], columns: Sequence[str], names: Container[str]
    ) -> None:
        self.where = where
        columns = [*columns, *["label"] * (len(fields) - len(columns))]
        found = list(zip(columns, fields, strict=False))
        self.path = next((field for column, field in found if column == "path"), "")
        labels = [normal(field) for column, field in found if column == "label"]
        # Names with spaces in a list that spaces separate.
        self.labels = [joined] if (joined := " ".join(labels)) in names else labels
        if not self.labels:
            raise UserError(f"{where}: no label after {self.path}")
        self.segment = None
        times = {column: field for column, field in found if column in ("start", "end")}
        if times:
            try:
                self.segment = float(times["start"]), float(times["end"])
            except (KeyError, ValueError) as error:
                raise UserError(f"{where}: start and end are not two numbers of seconds: {times}") from error


def check_columns(columns: Sequence[str]) -> None:
    """Refuses columns that are none, or that do not tell path and label: a ``UserError``."""
    unknown = [column for column in columns if column not in COLUMNS]
    if (
        unknown
        or columns.count("path") != 1
        or "label" not in columns
        or ("start" in columns) != ("end" in columns)
    ):
        raise UserError(
            f"columns={','.join(columns)} is not valid: give one path, perhaps frames, start and end, or - for "
            "what does not count, and label, such as path,frames,label"
        )


def _without_header(rows: Rows, root: Path, names: Mapping[str, int]) -> tuple[Rows, list[str] | None]:
    """The rows below the header, and its columns; None: it names none that is known, or there is none."""
    if not rows or not _is_header(rows[0][1], root, names):
        return rows, None
    columns = [_column(field) for field in rows[0][1]]
    if "path" not in columns:
        columns[0] = "path"
    is_whole = (
        columns.count("path") == 1 and "label" in columns and ("start" in columns) == ("end" in columns)
    )
    return rows[1:], columns if is_whole else None


def _column(word: str) -> str:
    return next((column for column, words in _WORDS.items() if re.fullmatch(words, word.lower())), "label")


def _is_header(fields: list[str], root: Path, names: Mapping[str, int]) -> bool:
    path, *labels = fields
    reads_as_label = any(label in names or label.removeprefix("-").isdecimal() for label in labels)
    return not Path(path).suffix and not reads_as_label and not (root / path).exists()


def _guess_columns(file: Path, rows: Rows, classes: ClassFile) -> list[str]:
    """``path,label…`` or ``path,frames,label…``, whichever the lines allow."""
    plain = ["path", "label"]
    if not all(len(fields) > 2 and _COUNT.fullmatch(fields[1]) for _, fields in rows):
        return plain
    valid = {*classes.names, *map(str, range(len(classes.names) + (classes.first or 0)))}
    if not all(normal(label) in valid for _, fields in rows for label in fields[2:]):
        return plain
    if not all(fields[1] in valid for _, fields in rows):
        return ["path", "frames", "label"]
    line, fields = rows[0]
    raise UserError(
        f"{file}, line {line}: {fields[1]} may be a number of frames or a label, and so in every line: "
        "give columns=path,frames,label or columns=path,label,label"
    )


def class_numbers(classes: ClassFile, used: Sequence[str]) -> dict[str, int]:
    """The class of each number in lists whose labels are ``used``.

    A class file that counts from 1 may come with lists that count from 0: these have a label 0, and no last one.
    """
    first, count = classes.first or 0, len(classes.names)
    if first == 1 and "0" in used and str(count) not in used:
        log.info("the class file counts from 1 and the lists from 0: label 0 is %s", classes.names[0])
        first = 0
    return {str(first + number): number for number in range(count)}


def _entries(
    root: Path, table: Sequence[ListRow], classes: ClassFile, numbers: Mapping[str, int]
) -> list[Entry]:
    entries: list[Entry] = []
    listed: dict[str, str] = {}
    missing: list[tuple[str, str]] = []
    stored = StoredNames(root)
    for row in table:
        asked = name_below(row.path, root, row.where)
        name = stored.find(asked)
        path = os.path.join(root, name or asked)
        called = name or asked
        if row.segment is not None:
            called = f"{called}#{row.segment[0]:.2f}-{row.segment[1]:.2f}"
        if called in listed:
            raise UserError(
                f"{row.where}: {row.path} is listed already, in {listed[called]}; keep one of them"
            )
        listed[called] = row.where.rpartition(", ")[2]
        if unknown := [label for label in row.labels if label not in numbers]:
            first = int(next(iter(numbers))) if next(iter(numbers)).isdecimal() else 0
            raise UserError(
                f"{row.where}: label {unknown[0]!r} out of range: {label_choices(unknown[0], classes.names, first)}"
            )
        if name is None:
            missing.append((path, row.where))
        # A dict, not a set: the first label is the one to stratify by.
        labels = tuple({numbers[label]: None for label in row.labels})
        entries.append(Entry(path, labels, called, row.segment))
    if missing:
        path, where = missing[0]
        raise UserError(
            f"{len(missing)} of {len(entries)} listed videos do not exist; the first: {path} ({where}); correct the "
            "video folder or remove the lines"
        )
    return entries

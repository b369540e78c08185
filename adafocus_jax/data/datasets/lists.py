"""The lists that the authors' code of this method, AR-Net and TSM read, for any data set.

Sources: ``ops/dataset.py`` of LeapLabTHU/Uni-AdaFocus and mengyuest/AR-Net (``path,num_frames,label[,label…]`` for
ActivityNet and FCVID, with spaces for Mini-Kinetics, with semicolons for Kinetics), and ``tools/gen_label_*.py`` of
mit-han-lab/temporal-shift-module (``path num_frames label``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from adafocus_jax.data.datasets.classes import ClassFile
from adafocus_jax.data.datasets.files import find_class_file, find_split_files
from adafocus_jax.data.datasets.labelled_list import ListRow, check_columns, class_numbers
from adafocus_jax.data.datasets.list_files import label_choices, read_rows
from adafocus_jax.data.datasets.spec import Annotations, DatasetSpec, Row, Source
from adafocus_jax.errors import UserError

_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_PAD = "-1"


def read_lists(source: Source, spec: DatasetSpec, columns: Sequence[str] | None = None) -> Annotations | None:
    """The rows of the lists ``*train*``, ``*val*`` and ``*test*`` (``.txt`` or ``.csv``); None if there are none.

    Tab, semicolon, comma or space between the fields, of which the last are numbers:

    - ``path label``;
    - ``path num_frames label``: the number of frames does not count;
    - ``path num_frames label label…`` where a video can have several labels;
    - ``path start end label``, in seconds, where it has one.

    A label -1 is a pad. Class names are those of the class file, or else the numbers; labels count from where the class
    file does, or from 0.

    Args:
      source: with the lists.
      spec: of the data set.
      columns: what the columns are, of ``labelled_list.COLUMNS``, where they are not of these forms.

    Raises:
      UserError: a line of another form, with its file and number.
    """
    found = find_split_files(source, (".txt", ".csv"))
    if not found:
        return None
    classes = find_class_file(source)
    if classes is None:
        if spec.num_classes is None:
            raise UserError(
                f"{source.annotations} has no class file: add a classInd.txt with one name per line"
            )
        classes = ClassFile(tuple(map(str, range(spec.num_classes))))
    if columns is not None:
        rows = [row for split, file in found.items() for row in _by_column(file, split, columns, classes)]
    else:
        several = spec.max_labels > 1
        rows = [row for split, file in found.items() for row in _read_rows(file, split, several)]
    used = [str(label) for row in rows for label in row.labels]
    if all(label in classes.names for label in used):
        return Annotations(classes.names, rows)
    numbers = class_numbers(classes, used)
    return Annotations(classes.names, [_numbered(row, numbers, classes) for row in rows])


def _numbered(row: Row, numbers: Mapping[str, int], classes: ClassFile) -> Row:
    if unknown := [label for label in row.labels if str(label) not in numbers]:
        choices = label_choices(str(unknown[0]), classes.names, int(next(iter(numbers))))
        raise UserError(f"{row.where}: label {unknown[0]} is not a class: {choices}")
    return replace(row, labels=tuple(numbers[str(label)] for label in row.labels))


def _by_column(file: Path, split: str, columns: Sequence[str], classes: ClassFile) -> Iterator[Row]:
    check_columns(columns)
    for line, fields in read_rows(file):
        found = ListRow(f"{file}, line {line}", fields, columns, classes.names)
        yield Row(found.where, split, found.path, tuple(found.labels), found.segment)


def _read_rows(file: Path, split: str, several: bool) -> list[Row]:
    return [_row(f"{file}, line {line}", split, fields, several) for line, fields in read_rows(file)]


def _row(where: str, split: str, fields: list[str], several: bool) -> Row:
    path, *numbers = fields
    if not numbers or not all(map(_NUMBER.fullmatch, numbers)):
        raise UserError(
            f"{where}: no class number after {' '.join(fields)}; lines are path, num_frames, label"
        )
    while len(numbers) > 2 and numbers[-1] == _PAD:
        numbers.pop()
    if len(numbers) < 3 or several:
        return Row(where, split, path, _labels(where, numbers[1:] or numbers))
    if len(numbers) == 3:
        return Row(where, split, path, _labels(where, numbers[2:]), (float(numbers[0]), float(numbers[1])))
    raise UserError(
        f"{where}: {len(numbers)} numbers after {path}; lines are path, start, end, label at most"
    )


def _labels(where: str, fields: list[str]) -> tuple[int, ...]:
    labels = [field for field in fields if field != _PAD] or fields
    if broken := [label for label in labels if "." in label]:
        raise UserError(f"{where}: label {broken[0]!r} is not a whole number")
    return tuple(dict.fromkeys(map(int, labels)))

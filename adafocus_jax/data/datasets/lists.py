"""The lists that the authors' code of this method, AR-Net and TSM read, for any data set.

Sources: ``ops/dataset.py`` of LeapLabTHU/Uni-AdaFocus and mengyuest/AR-Net (``path,num_frames,label[,label…]`` for
ActivityNet and FCVID, with spaces for Mini-Kinetics, with semicolons for Kinetics), and ``tools/gen_label_*.py`` of
mit-han-lab/temporal-shift-module (``path num_frames label``).
"""

from __future__ import annotations

import re
from pathlib import Path

from adafocus_jax.data.datasets.files import find_classes, find_split_files
from adafocus_jax.data.datasets.list_files import read_rows
from adafocus_jax.data.datasets.spec import Annotations, DatasetSpec, Row, Source
from adafocus_jax.errors import UserError

_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_PAD = "-1"


def read_lists(source: Source, spec: DatasetSpec) -> Annotations | None:
    """The rows of the lists ``*train*``, ``*val*`` and ``*test*`` (``.txt`` or ``.csv``); None if there are none.

    Tab, semicolon, comma or space between the fields, of which the last are numbers:

    - ``path label``;
    - ``path num_frames label``: the number of frames does not count;
    - ``path num_frames label label…`` where a video can have several labels;
    - ``path start end label``, in seconds, where it has one.

    A label -1 is a pad. Class names are those of the class file, or else the numbers.

    Raises:
      UserError: a line of another form, with its file and number.
    """
    found = find_split_files(source, (".txt", ".csv"))
    if not found:
        return None
    classes = find_classes(source)
    if classes is None and spec.num_classes is None:
        raise UserError(f"{source.annotations} has no class file: add a classInd.txt with one name per line")
    several = spec.max_labels > 1
    rows = [row for split, file in found.items() for row in _read_rows(file, split, several)]
    return Annotations(classes or tuple(map(str, range(spec.num_classes or 0))), rows)


def _read_rows(file: Path, split: str, several: bool) -> list[Row]:
    return [_row(f"{file}, line {line}", split, fields, several) for line, fields in read_rows(file)]


def _row(where: str, split: str, fields: list[str], several: bool) -> Row:
    count = next(
        (n for n, field in enumerate(fields[:0:-1]) if not _NUMBER.fullmatch(field)), len(fields) - 1
    )
    # A path may hold spaces, and a list may be separated by them.
    path, numbers = " ".join(fields[: len(fields) - count]), fields[len(fields) - count :]
    while len(numbers) > 2 and numbers[-1] == _PAD:
        numbers.pop()
    if not numbers:
        raise UserError(f"{where}: no class number after {path}; lines are path, num_frames, label")
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

"""Data sets whose folders are the annotation: RLVS, brain MRI, and one's own."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from adafocus_jax.data.datasets.annotations import read_splits, scan_class_folders, split_off
from adafocus_jax.data.datasets.entry import Entry
from adafocus_jax.data.datasets.files import find_classes, find_file, official_form, split_of
from adafocus_jax.data.datasets.list_files import read_lines
from adafocus_jax.data.datasets.spec import Annotations, Row, Source
from adafocus_jax.data.media.kinds import media_stem
from adafocus_jax.errors import UserError


def read_custom(
    source: Source,
    *,
    classes_file: str | Path | None = None,
    val_src: str | Path | None = None,
    val_fraction: float | None = None,
    columns: Sequence[str] | None = None,
    seed: int = 0,
) -> Annotations | None:
    """Folders of classes, or a list file: see ``read_splits``.

    A folder of annotations holds lists and a class file as the authors' guide to data of one's own has them
    (``classInd.txt``, ``train_split.txt``, ``val_split.txt``).
    """
    if source.annotations is not None and source.annotations.is_dir():
        return None
    is_list = source.annotations is not None
    splits, classes = read_splits(
        source.annotations or source.videos,
        classes_file=classes_file,
        videos=source.videos if is_list else None,
        val_src=val_src,
        val_fraction=val_fraction,
        columns=columns,
        seed=seed,
    )
    return Annotations(classes, splits=splits)


def read_violence(source: Source, *, val_fraction: float | None = None, seed: int = 0) -> Annotations | None:
    """The folders ``NonViolence`` and ``Violence`` of Real Life Violence Situations, perhaps below train and val.

    The data set has no official split: ``val_fraction`` sets a share of each class aside. Source: its page on Kaggle.
    """
    if source.annotations is not None:
        return None
    splits, classes = read_splits(source.videos, val_fraction=val_fraction, seed=seed)
    if [name.casefold() for name in classes] != ["nonviolence", "violence"]:
        raise UserError(
            f"{source.videos} holds {', '.join(classes[:3])}: give the folder of NonViolence and Violence"
        )
    return Annotations(classes, splits=splits)


def read_mri(source: Source, *, val_fraction: float | None = None, seed: int = 0) -> Annotations:
    """Volumes (``.nii``, ``.nii.gz``) in folders of classes, or a CSV file with the head ``path,label,patient,split``.

    All volumes of a patient are in one split. In folders, the patient is the folder below that of the class, or what
    the file name has before the first ``_`` (``sub-01_T1w.nii.gz``). Where there is no column ``split``,
    ``val_fraction`` sets a share of the patients of each class aside. There is no official form: these are the
    project's own.

    Raises:
      UserError: a patient in two splits, a class with one patient, or a column that is missing.
    """
    rows = list(_mri_table(source) if source.annotations else _mri_folders(source.videos))
    classes = find_classes(source) or tuple(sorted({str(row.labels[0]) for row, _ in rows}))
    if val_fraction is not None:
        rows = _set_patients_aside(rows, classes, val_fraction, seed)
    splits: dict[str, str] = {}
    for row, patient in rows:
        if splits.setdefault(patient, row.split) != row.split:
            raise UserError(
                f"{row.where}: patient {patient} is in two splits, {splits[patient]} and {row.split}"
            )
    return Annotations(classes, [row for row, _ in rows])


def _mri_folders(videos: Path) -> Iterator[tuple[Row, str]]:
    entries, classes = scan_class_folders(videos)
    for entry in entries:
        yield Row(entry.path, "train", entry.name, (classes[entry.labels[0]],)), _patient(entry.name)


def _mri_table(source: Source) -> Iterator[tuple[Row, str]]:
    table = find_file(source, r".*\.csv")
    if table is None:
        raise UserError(f"{source.annotations} holds no CSV file with the head path,label,patient,split")
    reader = csv.DictReader(read_lines(table))
    for fields in reader:
        where = f"{table}, line {reader.line_num}"
        with official_form(where):
            split = split_of(fields.get("split") or "train", where)
            yield Row(where, split, fields["path"], (fields["label"],)), fields["patient"]


def _set_patients_aside(
    rows: list[tuple[Row, str]], classes: tuple[str, ...], share: float, seed: int
) -> list[tuple[Row, str]]:
    if own := next((row for row, _ in rows if row.split != "train"), None):
        raise UserError(f"{own.where} is of the split {own.split} already: drop `val_fraction`")
    patients: dict[str, Entry] = {}
    for row, patient in rows:
        patients.setdefault(patient, Entry("", (classes.index(str(row.labels[0])),), patient))
    val = {entry.name for entry in split_off(list(patients.values()), share, seed, classes)[1]}
    return [(replace(row, split="val") if patient in val else row, patient) for row, patient in rows]


def _patient(name: str) -> str:
    """Whose volume it is, by its path from the folder of the class.

    >>> _patient("healthy/sub-01/anat/T1w.nii.gz"), _patient("healthy/sub-01_ses-2_T1w.nii")
    ('sub-01', 'sub-01')
    """
    _, first, *deeper = name.split("/")
    return first if deeper else media_stem(first).split("_")[0]

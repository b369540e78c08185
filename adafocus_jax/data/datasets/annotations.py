"""Which videos there are and what is in them: folders of classes, or list files with a class file."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from adafocus_jax.data.datasets.list_files import label_choices, name_below, read_lines, read_rows
from adafocus_jax.data.media.kinds import VIDEO_SUFFIXES, Notice, find_media
from adafocus_jax.errors import UserError

_TRAIN_FOLDER, _VAL_FOLDERS = "train", ("val", "validation", "test")


@dataclass(frozen=True)
class Entry:
    """One video and its classes."""

    path: str
    """Where it is: a video file, a folder of frames, or a volume."""
    labels: tuple[int, ...]
    """Class numbers, at least one."""
    name: str
    """The path below the video folder, with ``/``, and the segment: what the video is called from here on."""
    segment: tuple[float, float] | None = None
    """Start and end in the file, in seconds; None: all of it."""


def read_splits(
    src: str | Path,
    *,
    classes_file: str | Path | None = None,
    videos: str | Path | None = None,
    val_src: str | Path | None = None,
    val_fraction: float | None = None,
    seed: int = 0,
) -> tuple[dict[str, list[Entry]], tuple[str, ...]]:
    """The videos of the splits ``train`` and, if asked for, ``val``; and the class names.

    ``src`` and ``val_src`` are folders with one sub-folder per class, or list files (see ``read_list``), whose
    paths are relative to ``videos`` or else to the list's own folder. A ``src`` with the sub-folders ``train`` and
    ``val`` (or ``validation``, or ``test``) brings its own validation split.

    Raises:
      UserError: see the functions below; or more than one validation split is asked for, or a video is in both.
    """
    src = Path(src)
    if inner := _own_val_folder(src):
        if val_src is not None or val_fraction is not None:
            raise UserError(
                f"{src} brings its own validation split {inner.name}/: drop `val_src` and `val_fraction`"
            )
        src, val_src = src / _TRAIN_FOLDER, inner
    if val_src is not None and val_fraction is not None:
        raise UserError("`val_src` and `val_fraction` exclude each other: give one of them")
    if videos is not None and src.is_dir() and (val_src is None or Path(val_src).is_dir()):
        raise UserError(f"videos={videos} goes with a list of paths, and {src} is a folder: drop it")
    classes = None if classes_file is None else read_classes(classes_file)
    train, classes = _read_source(src, videos, classes)
    if val_fraction is not None:
        train, val = split_off(train, val_fraction, seed, classes)
        return {"train": train, "val": val}, classes
    if val_src is None:
        return {"train": train}, classes
    val, _ = _read_source(Path(val_src), videos, classes)
    known = {os.path.realpath(entry.path) for entry in train}
    if both := [entry.path for entry in val if os.path.realpath(entry.path) in known]:
        raise UserError(
            f"{len(both)} videos are in both splits, the first is {both[0]}: remove them from one"
        )
    return {"train": train, "val": val}, classes


def _own_val_folder(src: Path) -> Path | None:
    """The validation folder beside ``train``, unless ``train`` is a class of that name and holds videos itself."""
    train = src / _TRAIN_FOLDER
    if not train.is_dir() or not any(path.is_dir() for path in train.iterdir()):
        return None
    return next((src / name for name in _VAL_FOLDERS if (src / name).is_dir()), None)


def _read_source(
    src: Path, videos: str | Path | None, classes: tuple[str, ...] | None
) -> tuple[list[Entry], tuple[str, ...]]:
    if not src.exists():
        raise UserError(f"no such folder or list file: {src}")
    if src.is_dir():
        return scan_class_folders(src, classes)
    if classes is None:
        raise UserError(f"the list {src} needs a class file, one class name per line: give classes=FILE")
    return read_list(src, src.parent if videos is None else videos, classes), classes


def scan_class_folders(
    root: str | Path, classes: Sequence[str] | None = None
) -> tuple[list[Entry], tuple[str, ...]]:
    """The videos below ``root``, one sub-folder per class; hidden folders are left out.

    Args:
      root: the folder of class folders. Video files, volumes and folders of frames may lie at any depth within.
      classes: class names that fix the numbers; None numbers the sub-folders in sorted order.

    Raises:
      UserError: no such folder; no class folders or no videos in one; a folder that is not among ``classes``; or
        two names that differ in case alone.
    """
    root = Path(root)
    if not root.is_dir():
        raise UserError(f"no such folder: {root}")
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not folders:
        raise UserError(f"{root} has no class folders: it must hold one sub-folder of videos per class")
    names = check_classes([folder.name for folder in folders], str(root))
    classes = names if classes is None else tuple(classes)
    if unknown := sorted(set(names) - set(classes)):
        raise UserError(
            f"the folder {root / unknown[0]} is not a class: {label_choices(unknown[0], classes)}"
        )
    entries = []
    notice = Notice(f"looking through the files and folders in {root}")
    for folder, name in zip(folders, names, strict=True):
        found = find_media(folder, notice)
        if not found:
            raise UserError(
                f"the folder {folder} has no videos ({' '.join(VIDEO_SUFFIXES)}, folders of numbered images): "
                "add some, or remove it"
            )
        label = classes.index(name)
        entries += [Entry(str(path), (label,), path.relative_to(root).as_posix()) for path in found]
    return entries, tuple(classes)


def read_classes(file: str | Path) -> tuple[str, ...]:
    """The class names in ``file``, one per line, numbered from 0; blank lines do not count.

    Raises:
      UserError: no such file, no names in it, or two that differ in case alone.
    """
    names = [line.strip() for line in read_lines(file) if line.strip()]
    if not names:
        raise UserError(f"the class file {file} is empty: it must hold one class name per line")
    return check_classes(names, str(file))


def check_classes(names: Iterable[str], where: str) -> tuple[str, ...]:
    """The names without outer spaces; two that differ in case or outer spaces alone are a ``UserError``."""
    seen: dict[str, str] = {}
    for name in names:
        if (key := name.strip().casefold()) in seen:
            raise UserError(
                f"two classes of the same name in {where}: {seen[key]!r} and {name!r}; rename or merge them"
            )
        if "\n" in name or not key:
            raise UserError(f"a class name in {where} is blank or has a line break: {name!r}; rename it")
        seen[key] = name
    return tuple(name.strip() for name in seen.values())


def mirrored_labels(classes: Sequence[str]) -> tuple[int, ...]:
    """The class that each class becomes when its video is mirrored: the one with left and right exchanged.

    A class whose name has neither word, or whose counterpart is not a class, stays itself. Other pairs that
    mirroring exchanges, such as clockwise and counterclockwise, are not known here.

    >>> mirrored_labels(("Swiping Left", "Swiping Right", "Stop", "Pushing from left to right"))
    (1, 0, 2, 3)
    """
    swap = {"left": "right", "right": "left"}
    numbers = {name.casefold(): number for number, name in enumerate(classes)}
    mirrored = (re.sub(r"\b(left|right)\b", lambda m: swap[m[0]], name.casefold()) for name in classes)
    return tuple(numbers.get(name, number) for number, name in enumerate(mirrored))


def read_list(list_file: str | Path, root: str | Path, classes: Sequence[str]) -> list[Entry]:
    """The videos of a list of ``path,label[,label…]`` lines.

    Comma, semicolon, tab or space: the first of tab, semicolon, comma and space that every line has. A header
    line may come first. Labels are all class names or all numbers from 0. Fields may be quoted as in CSV.

    Raises:
      UserError: with file and line: a path that is missing, listed twice or outside ``root``; a label that is
        not in ``classes``; a line without label.
    """
    rows = read_rows(list_file)
    root = Path(root)
    if not root.is_dir():
        raise UserError(f"no such folder: {root}")
    numbers = {name: number for number, name in enumerate(classes)}
    if rows and _is_header(rows[0][1], root, numbers):
        rows = rows[1:]
    if not rows:
        raise UserError(f"the list {list_file} names no videos: it must hold lines of path,label")
    if not all(label in numbers for _, fields in rows for label in fields[1:]):
        numbers = {str(number): number for number in range(len(classes))}
    entries: list[Entry] = []
    lines: dict[str, int] = {}
    for line, (path, *labels) in rows:
        where = f"{list_file}, line {line}"
        name = name_below(path, root, where)
        if name in lines:
            raise UserError(f"{where}: {path} is listed already, in line {lines[name]}; keep one of them")
        lines[name] = line
        if not labels:
            raise UserError(f"{where}: no label after {path}")
        if unknown := [label for label in labels if label not in numbers]:
            raise UserError(
                f"{where}: label {unknown[0]!r} out of range: {label_choices(unknown[0], classes)}"
            )
        # A dict, not a set: the first label is the one to stratify by.
        entries.append(Entry(str(root / name), tuple({numbers[label]: None for label in labels}), name))
    if missing := [entry for entry in entries if not os.path.exists(entry.path)]:
        raise UserError(
            f"{len(missing)} of {len(entries)} listed videos do not exist; the first: {missing[0].path} "
            f"({list_file}, line {lines[missing[0].name]}); correct the video folder or remove the lines"
        )
    return entries


def _is_header(fields: list[str], root: Path, numbers: dict[str, int]) -> bool:
    path, *labels = fields
    reads_as_label = any(label in numbers or label.removeprefix("-").isdecimal() for label in labels)
    return not Path(path).suffix and not reads_as_label and not (root / path).exists()


def split_off(
    entries: Sequence[Entry], fraction: float, seed: int, classes: Sequence[str]
) -> tuple[list[Entry], list[Entry]]:
    """Sets aside a share of each class (by first label), at least one video and not all: ``(train, val)``.

    The same entries, fraction and seed give the same split.

    Raises:
      UserError: the fraction is not between 0 and 1, or a class has one video only.
    """
    if not 0 < fraction < 1:
        raise UserError(
            f"val_fraction={fraction} is not between 0 and 1: give the share to set aside, such as 0.1"
        )
    members: dict[int, list[int]] = defaultdict(list)
    for position, entry in enumerate(entries):
        members[entry.labels[0]].append(position)
    val: set[int] = set()
    for label, positions in sorted(members.items()):
        if len(positions) < 2:
            raise UserError(
                f"class {classes[label]!r} has one video: `val_fraction` needs two or more of each class; "
                "add videos, remove the class, or give `val_src`"
            )
        count = min(max(1, round(fraction * len(positions))), len(positions) - 1)
        val.update(np.random.default_rng((seed, label)).permutation(positions)[:count].tolist())
    return [e for i, e in enumerate(entries) if i not in val], [e for i, e in enumerate(entries) if i in val]

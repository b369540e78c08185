"""Which videos there are and what is in them: folders of classes, or list files with a class file."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from adafocus_jax.data.datasets.classes import check_classes, read_class_file
from adafocus_jax.data.datasets.entry import Entry
from adafocus_jax.data.datasets.labelled_list import read_lists_of
from adafocus_jax.data.datasets.list_files import label_choices
from adafocus_jax.data.media.formats import VIDEO_SUFFIXES
from adafocus_jax.data.media.kinds import Search, find_media
from adafocus_jax.data.media.names import is_hidden, normal
from adafocus_jax.errors import UserError

_TRAIN_FOLDER, _VAL_FOLDERS = "train", ("val", "validation", "test")


def read_splits(
    src: str | Path,
    *,
    classes_file: str | Path | None = None,
    videos: str | Path | None = None,
    val_src: str | Path | None = None,
    val_fraction: float | None = None,
    columns: Sequence[str] | None = None,
    seed: int = 0,
) -> tuple[dict[str, list[Entry]], tuple[str, ...]]:
    """The videos of the splits ``train`` and, if asked for, ``val``; and the class names.

    ``src`` and ``val_src`` are folders with one sub-folder per class, or list files (see ``read_lists_of``), whose
    paths are relative to ``videos`` or else to the list's own folder. A ``src`` with the sub-folders ``train`` and
    ``val`` (or ``validation``, or ``test``) brings its own validation split. ``columns``: of the lists.

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
    sources = [src] if val_src is None else [src, Path(val_src)]
    if absent := [source for source in sources if not source.exists()]:
        raise UserError(f"no such folder or list file: {absent[0]}")
    lists = [source for source in sources if not source.is_dir()]
    for name, value in {"videos": videos, "columns": columns and ",".join(columns)}.items():
        if value is not None and not lists:
            raise UserError(f"{name}={value} goes with a list of paths, and {src} is a folder: drop it")
    classes = None if classes_file is None else read_class_file(classes_file)
    if lists and classes is None:
        raise UserError(f"the list {lists[0]} needs a class file, one class name per line: give classes=FILE")
    # Lists are read together: which numbers their labels have shows in all of them.
    roots = {file: Path(file.parent if videos is None else videos) for file in lists}
    listed = dict(zip(roots, read_lists_of(roots, classes, columns), strict=True)) if classes else {}
    names = classes.names if classes else None
    entries = []
    for source in sources:
        if source in listed:
            entries.append(listed[source])
        else:
            found, names = scan_class_folders(source, names)
            entries.append(found)
    train, names = entries[0], names or ()
    if val_fraction is not None:
        train, val = split_off(train, val_fraction, seed, names)
        return {"train": train, "val": val}, names
    if val_src is None:
        return {"train": train}, names
    known = {os.path.realpath(entry.path) for entry in train}
    if both := [entry.path for entry in entries[1] if os.path.realpath(entry.path) in known]:
        raise UserError(
            f"{len(both)} videos are in both splits, the first is {both[0]}: remove them from one"
        )
    return {"train": train, "val": entries[1]}, names


def _own_val_folder(src: Path) -> Path | None:
    """The validation folder beside ``train``, unless ``train`` is a class of that name and holds videos itself."""
    train = src / _TRAIN_FOLDER
    if not train.is_dir() or not any(path.is_dir() for path in train.iterdir()):
        return None
    return next((src / name for name in _VAL_FOLDERS if (src / name).is_dir()), None)


def scan_class_folders(
    root: str | Path, classes: Sequence[str] | None = None
) -> tuple[list[Entry], tuple[str, ...]]:
    """The videos below ``root``, one sub-folder per class; what is left out is counted, and told in a line.

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
    search = Search(f"looking through the files and folders in {root}")
    folders = _class_folders(root, search)
    if not folders:
        raise UserError(f"{root} has no class folders: it must hold one sub-folder of videos per class")
    names = check_classes([folder.name for folder in folders], str(root))
    classes = names if classes is None else tuple(map(normal, classes))
    if unknown := sorted(set(names) - set(classes)):
        raise UserError(
            f"the folder {root / unknown[0]} is not a class: {label_choices(unknown[0], classes)}"
        )
    entries = []
    for folder, name in zip(folders, names, strict=True):
        found = find_media(folder, search)
        if not found:
            raise UserError(
                f"the folder {folder} has no videos ({' '.join(VIDEO_SUFFIXES)}, folders of numbered images): "
                "add some, or remove it"
            )
        label = classes.index(name)
        entries += [Entry(str(path), (label,), path.relative_to(root).as_posix()) for path in found]
    search.end()
    return entries, tuple(classes)


def _class_folders(root: Path, search: Search) -> list[Path]:
    above = {root.resolve(), *root.resolve().parents}
    folders = []
    for path in sorted(root.iterdir()):
        if is_hidden(path.name):
            search.leave_out(path.name, "hidden or system files")
        elif not path.is_dir():
            search.leave_out(path.name, "files in no class folder")
        elif path.resolve() in above:
            search.leave_out(path.name, "links back to a folder that they are in")
        else:
            folders.append(path)
    return folders


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

"""From the name of a data set, its videos and its annotations to the table of entries."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adafocus_jax.data.datasets.files import find_source
from adafocus_jax.data.datasets.lists import read_lists
from adafocus_jax.data.datasets.lookup import resolve
from adafocus_jax.data.datasets.registry import DATASETS
from adafocus_jax.data.datasets.spec import Annotations, DatasetSpec, DatasetTable, Source
from adafocus_jax.errors import UserError


def read_dataset(
    name: str, videos: str | Path, annotations: str | Path | None = None, **options: Any
) -> DatasetTable:
    """Which videos of a data set there are, and what is in them.

    A video is found by its path, or by its id as a file of any suffix or a folder of frames, in any folder below
    ``videos``; those that are not there are listed, and how many may be so is for the caller to say.
    Where a data set has labels for a train and a test part alone, the test part is the split ``val``.

    Args:
      name: one of ``DATASETS``.
      videos: the folder of videos.
      annotations: the folder of annotation files, or the one file: the official ones, or else the lists of the
        authors' code (see ``read_lists``). A class file there fixes the
        numbers of classes. None: the folders are the annotation.
      options: for the reader of the data set: ``trim`` (activitynet, kinetics400, mini_kinetics), ``val_fraction``
        (violence, mri, custom), ``classes_file`` and ``val_src`` (custom). None: not given. Any takes ``seed``,
        by which ``val_fraction`` draws, and ``columns``, of lists.

    Raises:
      UserError: an unknown data set or option; files that are missing or of another form; another number of classes
        than the data set has; a label that is no class; a path that leads out of ``videos``; no video at all.
    """
    if name not in DATASETS:
        raise UserError(f"unknown data set {name!r}: choose from {', '.join(DATASETS)}")
    spec, source = DATASETS[name], find_source(videos, annotations)
    found = _read(spec, source, {option: value for option, value in options.items() if value is not None})
    if not found.classes or len(found.classes) != (spec.num_classes or len(found.classes)):
        raise UserError(
            f"{annotations or videos} has {len(found.classes)} classes, and {spec.title} {spec.num_classes or 'some'}: "
            "give the files of that data set, or take the data set custom"
        )
    resolved, missing = resolve(found.rows, found.classes, source.videos)
    splits = found.splits or resolved
    if not splits:
        raise UserError(
            f"none of the {sum(map(len, missing.values()))} videos that {annotations} names is in {videos}"
        )
    if "test" in {*splits, *missing} and "val" not in {*splits, *missing}:
        splits, missing = _test_as_val(splits), _test_as_val(missing)
    return DatasetTable(splits, found.classes, spec, missing)


def _read(spec: DatasetSpec, source: Source, options: Mapping[str, Any]) -> Annotations:
    known = [name for name in inspect.signature(spec.read).parameters if name != "source"]
    if unknown := sorted(set(options) - {*known, "seed", "columns"}):
        raise UserError(f"{spec.name} has no option {unknown[0]}: it has {', '.join(known) or 'none'}")
    found = spec.read(source, **{name: value for name, value in options.items() if name in known})
    if found is not None:
        if "columns" in set(options) - set(known):
            raise UserError(
                f"columns={','.join(options['columns'])} goes with lists, not with {spec.files}: drop it"
            )
        return found
    if source.annotations is None:
        raise UserError(f"{spec.name} needs its annotation files: give annotations=DIR with {spec.files}")
    columns = options.get("columns")
    if (lists := read_lists(source, spec, columns)) is None:
        raise UserError(f"{source.annotations} holds neither {spec.files} nor lists such as train_split.txt")
    if unused := sorted(set(options) - {"seed", "columns"}):
        raise UserError(f"option {unused[0]} goes with {spec.files}, not with lists: drop it")
    return lists


def _test_as_val(splits: dict[str, list[Any]]) -> dict[str, list[Any]]:
    return {"val" if split == "test" else split: items for split, items in splits.items()}

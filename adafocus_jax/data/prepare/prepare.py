"""From video files to sharded records, on one machine or many; a killed run resumes at the first unfinished shard.

The videos are shuffled by a seed and assigned to shards up front: every machine derives the same plan without asking
the others. A shard appears under its final name only when complete, followed by a receipt in ``OUT/.prepare``; a
re-run writes the shards without a receipt and leaves the others alone. The metadata, without which the records do
not open, come last.
"""

from __future__ import annotations

import difflib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any, Literal

import numpy as np

from adafocus_jax.data.datasets import DATASETS, DatasetSpec, DatasetTable, read_dataset
from adafocus_jax.data.datasets.annotations import Entry, read_splits
from adafocus_jax.data.datasets.entries import ReadOptions
from adafocus_jax.data.datasets.spec import DEFAULT_FPS
from adafocus_jax.data.media.worker_process import refuse_unguarded_main
from adafocus_jax.data.prepare.finish import MAX_SKIPPED, PrepareSummary, finish, summarize, write_csv
from adafocus_jax.data.prepare.manifest import make_plan
from adafocus_jax.data.prepare.place import Place, open_place
from adafocus_jax.data.prepare.shards import FrameFormat, ShardJob, make_jobs, make_shards, read_receipts
from adafocus_jax.data.records.schema import DATASET, SCRATCH, About
from adafocus_jax.errors import UserError

FPS = {name: spec.fps for name, spec in DATASETS.items() if spec.fps != DEFAULT_FPS}
"""The highest frame rate to store, by data set, where it is not ``DEFAULT_FPS``; None keeps all frames."""

_VIDEOS_PER_SHARD = 200
_MIN_SHARDS, _MIN_VIDEOS_PER_SHARD = 16, 8

ShardMaker = Callable[[Sequence[ShardJob]], None]
"""Writes all of the shards, on whichever machines."""


def prepare(
    source: str | Path,
    out: str | Path,
    *,
    videos: str | Path | None = None,
    annotations: str | Path | None = None,
    size: int = 256,
    fps: float | Literal["auto"] | None = "auto",
    quality: int = 90,
    read: ReadOptions | None = None,
    classes: str | Path | None = None,
    columns: Sequence[str] | None = None,
    trim: bool | None = None,
    val_fraction: float | None = None,
    val_src: str | Path | None = None,
    workers: int | None = None,
    seed: int = 0,
    max_skipped: float = MAX_SKIPPED,
    max_missing: float = 0.02,
    shards: int | None = None,
    part: tuple[int, int] = (0, 1),
    maker: ShardMaker | None = None,
) -> PrepareSummary:
    """Converts a data set, or a folder or list of videos, into sharded records in ``out``, or resumes doing so.

    Args:
      source: the name of a data set (a key of ``DATASETS``); or a folder with a sub-folder per class (also below
        ``train`` and ``val``), or a list file.
      out: the folder of records, local or remote (``gs://…``, ``s3://…``, what else fsspec writes). Shards that go to a
        remote one are finished below ``CacheOptions().root``, moved there whole, and followed by their receipts; so
        each process takes the room of one shard.
      videos: the folder of videos; for a list: what its paths are relative to, None: the list's own folder.
      annotations: the folder of the data set's annotation files, or the one file.
      size: the short side of the stored frames in pixels.
      fps: the highest frame rate to store; None keeps every frame; ``"auto"``: that of ``FPS`` for the data set.
      quality: JPEG quality, 1…100.
      read: how folders of frames and volumes are read; None: the defaults of ``ReadOptions``.
      classes: file of class names, one per line; required for lists.
      columns: what the columns of lists are, such as ``("path", "frames", "label")``; None: what the lines allow.
      trim: whether videos are cut to their annotated segments, where a data set has such; None: its own default.
      val_fraction: share of each class to hold out as the split ``val``, drawn by ``seed``.
      val_src: a folder or list to make the split ``val`` from.
      workers: processes; None: one per core, 0: work in this one.
      seed: seed of the record order and of the validation split.
      max_skipped: share of all videos that may fail to decode. If more do, the shards stay, but the metadata is
        not written; a re-run that allows more finishes at once.
      max_missing: share of the annotated videos that may be missing.
      shards: files per split; None: one per 200 videos, 16 or fewer for small sets.
      part: (i, n): only the shards i, i + n, …; ``finalize`` completes what all n parts wrote, whether to one
        folder or to several whose contents were copied into one.
      maker: writes the shards instead of ``workers`` processes on this machine.

    Raises:
      UserError: arguments, lists or folders that do not fit; other arguments than ``out`` was started with; another
        process is still writing the last shards; the disk is full; a worker was killed; too many videos are missing
        or were skipped.
    """
    refuse_unguarded_main()
    started = time.monotonic()
    _check_arguments(size=size, fps=fps, quality=quality, workers=workers, seed=seed, max_skipped=max_skipped,
                     max_missing=max_missing, shards=shards, part=part)  # fmt: skip
    place = open_place(out)
    _check_place(place, [folder for folder in (source, videos) if folder is not None])
    choice = {"trim": trim, "val_fraction": val_fraction}
    try:
        options = {**choice, "classes_file": classes, "val_src": val_src, "columns": columns, "seed": seed}
        table = read_table(source, videos, annotations, options)
        (place.folder / SCRATCH).mkdir(parents=True, exist_ok=True)
        _check_missing(place, table, max_missing)
        fps = table.spec.fps if fps == "auto" else fps
        frames = FrameFormat(size, fps, quality, read or ReadOptions())
        assigned = {split: _assign(entries, shards, seed) for split, entries in table.splits.items()}
        settings = {**_flags(frames), **choice, "seed": seed, "shards": shards}
        plan = make_plan(settings, _about(table.spec, frames), table, assigned)
        place.claim(plan)
        receipts = read_receipts(place, plan)[part[0] :: part[1]]
        jobs = make_jobs(place, plan, assigned, frames)[part[0] :: part[1]]
        todo = [job for job, receipt in zip(jobs, receipts, strict=True) if receipt is None]
        (maker or _in_processes(workers))(todo)
        if part[1] == 1:
            return finish(place, plan, max_skipped, started, write=bool(todo) or not place.is_complete())
        made = [receipt for receipt in read_receipts(place, plan)[part[0] :: part[1]] if receipt]
        return summarize(place, plan, made, started, complete=False)
    except OSError as error:
        raise UserError(
            f"preparing {out} stopped: {error}; fix this and run the same command again: finished shards stay"
        ) from error


def _flags(frames: FrameFormat) -> dict[str, Any]:
    flags = asdict(frames)
    flags |= flags.pop("read")
    del flags["limits"]  # What is stored does not depend on them.
    return flags


def _in_processes(workers: int | None) -> ShardMaker:
    return partial(make_shards, workers=(os.cpu_count() or 1) if workers is None else workers)


_VALID: dict[str, tuple[Callable[[Any], bool], str]] = {
    "size": (lambda size: size >= 8, "8 pixels or more"),
    "fps": (lambda fps: fps in (None, "auto") or fps > 0, "more than 0"),
    "quality": (lambda quality: 1 <= quality <= 100, "1…100"),
    "workers": (lambda workers: workers is None or workers >= 0, "0 or more"),
    "seed": (lambda seed: seed >= 0, "0 or more"),
    "shards": (lambda shards: shards is None or shards >= 1, "1 or more"),
    "max_skipped": (lambda share: 0 <= share <= 1, "a share in 0…1"),
    "max_missing": (lambda share: 0 <= share <= 1, "a share in 0…1"),
}


def _check_arguments(*, part: tuple[int, int], **arguments: Any) -> None:
    for name, value in arguments.items():
        is_valid, text = _VALID[name]
        if not is_valid(value):
            raise UserError(f"{name}={value} is not valid: give {text}")
    if not 0 <= part[0] < part[1]:
        raise UserError(f"part={part[0]}/{part[1]} is not valid: of n parts, give 0/n … (n - 1)/n")


def _check_place(place: Place, sources: Sequence[str | Path]) -> None:
    if not place.url:
        out = place.folder
        if out.exists() and not out.is_dir():
            raise UserError(f"out={out} is a file: give a folder")
        for source in map(Path, sources):
            if source.is_dir() and source.resolve() in (out.resolve(), *out.resolve().parents):
                raise UserError(
                    f"out={out} lies in {source}, where it would be taken for a class: choose another place"
                )
    if (names := place.names()) and SCRATCH not in names:
        raise UserError(f"out={place} holds other files: give an empty or new folder")


def read_table(
    source: str | Path,
    videos: str | Path | None,
    annotations: str | Path | None,
    options: dict[str, Any],
) -> DatasetTable:
    """The videos of a data set, or of a folder or list, with ``options`` of ``prepare`` that choose among them.

    Raises:
      UserError: they do not fit, or there is no such source.
    """
    if source in DATASETS:
        if videos is None:
            raise UserError(
                f"the data set {source} needs videos=DIR (for a folder of that name, give ./{source})"
            )
        if options["val_fraction"] is None or "seed" not in signature(DATASETS[source].read).parameters:
            del options["seed"]  # no split to draw
        return read_dataset(str(source), videos, annotations, **options)
    if not Path(source).exists():
        guess = difflib.get_close_matches(str(source), DATASETS, 1)
        hint = f"did you mean {guess[0]!r}? " if guess else ""
        raise UserError(
            f"no such data set, folder or list file: {source}; {hint}data sets: {', '.join(DATASETS)}"
        )
    if annotations is not None or options.pop("trim") is not None:
        raise UserError(
            f"`annotations` and `trim` go with the name of a data set, and {source} is none: drop them"
        )
    splits, classes = read_splits(source, videos=videos, **options)
    return DatasetTable(splits, classes, DATASETS["custom"], {})


def _check_missing(place: Place, table: DatasetTable, max_missing: float) -> None:
    missing = [(split, video) for split, names in table.missing.items() for video in names]
    if not missing:
        return
    write_csv(place, "missing.csv", ("split", "video"), missing)
    total = len(missing) + sum(map(len, table.splits.values()))
    if len(missing) > max_missing * total:
        share = len(missing) / total
        raise UserError(
            f"{len(missing)} of {total} annotated videos ({share:.1%}) are missing, more than "
            f"max_missing={max_missing:g}: see {place}/missing.csv; correct `videos`, or leave them out with "
            f"max_missing={share + 5e-4:.3f}"
        )


def _about(spec: DatasetSpec, frames: FrameFormat) -> About:
    rate = "all frames" if frames.fps is None else f"{frames.fps:g} frames per second or fewer"
    return About(
        name=tfds_name(spec.name),
        description=f"{spec.title}: JPEG frames of short side {frames.size} px, {rate}, prepared by adafocus_jax.",
        citation=spec.citation,
        homepage=spec.homepage,
        traits=spec.traits,
    )


def tfds_name(dataset: str) -> str:
    """The name of a data set in TensorFlow Datasets.

    >>> tfds_name("jester")
    'adafocus_jester'
    """
    return DATASET if dataset == "custom" else f"adafocus_{dataset}"


def _assign(entries: Sequence[Entry], shards: int | None, seed: int) -> list[tuple[Entry, ...]]:
    """Shuffles the videos, so that every shard mixes the classes, and splits them evenly."""
    few = min(_MIN_SHARDS, -(-len(entries) // _MIN_VIDEOS_PER_SHARD))
    count = min(shards or max(few, -(-len(entries) // _VIDEOS_PER_SHARD)), len(entries))
    order = np.random.default_rng(seed).permutation(len(entries))
    return [tuple(entries[i] for i in part) for part in np.array_split(order, count)]

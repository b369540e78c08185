"""From video files to sharded records, so that a run that is killed continues where it stopped.

The videos are dealt out to shards up front, shuffled by a seed. A shard appears under its final name only when
complete, followed by a receipt in ``OUT/.prepare``; a re-run makes the shards without receipt and leaves the others
alone. The metadata, without which the records do not open, comes last.
"""

from __future__ import annotations

import contextlib
import csv
import fcntl
import hashlib
import io
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from adafocus_jax.data.annotations import Entry, read_splits
from adafocus_jax.data.records import SCRATCH, commit, is_complete, write_metadata
from adafocus_jax.data.shards import Receipt, ShardJob, make_shards, write_json
from adafocus_jax.errors import UserError

_VIDEOS_PER_SHARD = 200
_MIN_SHARDS, _MIN_VIDEOS_PER_SHARD = 16, 8


@dataclass(frozen=True)
class PrepareSummary:
    """What a folder of records holds."""

    directory: str
    num_classes: int
    num_videos: dict[str, int]
    """Records per split."""
    num_frames: dict[str, int]
    """Frames per split."""
    num_bytes: int
    num_skipped: int
    """Videos that did not decode; ``skipped.csv`` lists them."""
    seconds: float
    """Time of this run alone."""


def prepare(
    src: str | Path,
    out: str | Path,
    *,
    size: int = 256,
    fps: float | None = 10.0,
    quality: int = 90,
    classes: str | Path | None = None,
    videos: str | Path | None = None,
    val_fraction: float | None = None,
    val_src: str | Path | None = None,
    workers: int | None = None,
    seed: int = 0,
    max_skipped: float = 0.01,
    shards: int | None = None,
) -> PrepareSummary:
    """Turns a folder or a list of videos into sharded records in ``out``, or continues to.

    Args:
        src: a folder with a sub-folder per class (also below ``train`` and ``val``), or a list file.
        out: the folder of records.
        size: the short side of the stored frames in pixels.
        fps: the highest frame rate to store; None keeps every frame.
        quality: of the JPEG frames, 1…100.
        classes: file of class names, one per line; must be there for lists.
        videos: the folder that the paths of a list are relative to; None: the list's own folder.
        val_fraction: share of each class to set aside as the split ``val``, drawn by ``seed``.
        val_src: a folder or list to make the split ``val`` of.
        workers: processes; None: one per core, 0: work in this one.
        seed: of the order of the records and of the validation split.
        max_skipped: share of all videos that may fail to decode. If more do, the shards stay, but the metadata is
            not written; a re-run that allows more finishes at once.
        shards: files per split; None: one per 200 videos, 16 or fewer for small sets.

    Raises:
        UserError: arguments, lists or folders that do not fit; other arguments than ``out`` was begun with; another
            process is at work in ``out``; the disk is full; a worker was killed; too many videos were skipped.
    """
    started = time.monotonic()
    settings = {"size": size, "fps": fps, "quality": quality, "seed": seed, "shards": shards}
    _check_arguments(**settings, workers=workers, max_skipped=max_skipped)
    out = Path(out)
    _check_out(out, Path(src))
    try:
        splits, names = read_splits(
            src, classes_file=classes, videos=videos, val_src=val_src, val_fraction=val_fraction, seed=seed
        )
        dealt = {split: _deal(entries, shards, seed) for split, entries in splits.items()}
        jobs = [
            ShardJob(out, split, number, len(parts), entries, names, size, fps, quality)
            for split, parts in dealt.items()
            for number, entries in enumerate(parts)
        ]
        with _lock(out):
            _claim(out, {**settings, "val_fraction": val_fraction}, splits, names)
            todo = [job for job in jobs if job.receipt() is None]
            make_shards(todo, (os.cpu_count() or 1) if workers is None else workers)
            return _finish(out, jobs, names, max_skipped, bool(todo), started)
    except OSError as error:
        raise UserError(
            f"preparing {out} stopped: {error}; see to that and run the same command again: what is done stays"
        ) from error


_VALID: dict[str, tuple[Callable[[Any], bool], str]] = {
    "size": (lambda size: size >= 8, "8 pixels or more"),
    "fps": (lambda fps: fps is None or fps > 0, "more than 0"),
    "quality": (lambda quality: 1 <= quality <= 100, "1…100"),
    "workers": (lambda workers: workers is None or workers >= 0, "0 or more"),
    "seed": (lambda seed: seed >= 0, "0 or more"),
    "shards": (lambda shards: shards is None or shards >= 1, "1 or more"),
    "max_skipped": (lambda share: 0 <= share <= 1, "a share in 0…1"),
}


def _check_arguments(**arguments: Any) -> None:
    for name, value in arguments.items():
        is_valid, text = _VALID[name]
        if not is_valid(value):
            raise UserError(f"{_flag(name)} {value} is not valid: give {text}")


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _check_out(out: Path, src: Path) -> None:
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file: OUT must be a folder")
    if src.is_dir() and src.resolve() in (out.resolve(), *out.resolve().parents):
        raise UserError(
            f"OUT {out} lies in SRC {src}, where it would be taken for a class: choose another place"
        )
    if out.is_dir() and not (out / SCRATCH).is_dir() and any(out.iterdir()):
        raise UserError(f"OUT {out} holds other files: give an empty or new folder")


def _deal(entries: Sequence[Entry], shards: int | None, seed: int) -> list[tuple[Entry, ...]]:
    """Shuffles the videos, so that every shard mixes the classes, and deals them out evenly."""
    few = min(_MIN_SHARDS, -(-len(entries) // _MIN_VIDEOS_PER_SHARD))
    count = min(shards or max(few, -(-len(entries) // _VIDEOS_PER_SHARD)), len(entries))
    order = np.random.default_rng(seed).permutation(len(entries))
    return [tuple(entries[i] for i in part) for part in np.array_split(order, count)]


@contextlib.contextmanager
def _lock(out: Path) -> Iterator[None]:
    """Keeps a second process out. The system frees the lock when its holder ends, however it ends."""
    (out / SCRATCH).mkdir(parents=True, exist_ok=True)
    with open(out / SCRATCH / "lock", "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise UserError(
                f"process {file.read().strip()} is preparing into {out} already: wait for it or stop it"
            ) from error
        file.truncate(0)
        print(os.getpid(), file=file, flush=True)
        for partial in (out / SCRATCH).glob("*.partial"):
            shutil.rmtree(partial) if partial.is_dir() else partial.unlink()
        yield


def _claim(
    out: Path, settings: dict[str, Any], splits: dict[str, list[Entry]], classes: tuple[str, ...]
) -> None:
    """Records what ``out`` is made of; the same again is fine, anything else a ``UserError`` that names it."""
    content = [classes, {split: [(e.name, e.labels) for e in entries] for split, entries in splits.items()}]
    videos = f"{sum(map(len, splits.values()))} videos"
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    plan = out / SCRATCH / "plan.json"
    if not plan.is_file():
        write_json(plan, {**settings, "videos": videos, "digest": digest})
        return
    begun = json.loads(plan.read_text(encoding="utf-8"))
    changes = [
        f"{_flag(name)} {begun.get(name)}, now {value}"
        for name, value in settings.items()
        if begun.get(name) != value
    ]
    if not changes and begun["digest"] != digest:
        changes = [f"other videos, labels or classes ({begun['videos']}, now {videos})"]
    if changes:
        raise UserError(f"{out} was begun with {'; '.join(changes)}: give the same, or another OUT")


def _finish(
    out: Path,
    jobs: Sequence[ShardJob],
    classes: tuple[str, ...],
    max_skipped: float,
    changed: bool,
    started: float,
) -> PrepareSummary:
    made: dict[str, list[Receipt]] = {}
    for job in jobs:
        receipt = job.receipt()
        if receipt is None:
            raise UserError(f"the shard {job.path} vanished while preparing: run the same command again")
        made.setdefault(job.split, []).append(receipt)
    skipped = [(split, *why) for split, receipts in made.items() for r in receipts for why in r.skipped]
    changed = changed or not is_complete(out)
    if changed:
        _write_skipped(out, skipped)
    _check_skipped(out, skipped, made, sum(len(job.entries) for job in jobs), max_skipped)
    num_bytes = {split: sum(r.num_bytes for r in receipts) for split, receipts in made.items()}
    if changed:
        lengths = {split: [r.num_records for r in receipts] for split, receipts in made.items()}
        max_labels = max(len(entry.labels) for job in jobs for entry in job.entries)
        write_metadata(out, classes, lengths, num_bytes, max_labels)
    return PrepareSummary(
        directory=str(out),
        num_classes=len(classes),
        num_videos={split: sum(r.num_records for r in receipts) for split, receipts in made.items()},
        num_frames={split: sum(r.num_frames for r in receipts) for split, receipts in made.items()},
        num_bytes=sum(num_bytes.values()),
        num_skipped=len(skipped),
        seconds=time.monotonic() - started,
    )


def _write_skipped(out: Path, skipped: Sequence[tuple[str, ...]]) -> None:
    text = io.StringIO()
    csv.writer(text).writerows([("split", "video", "reason"), *sorted(skipped)])
    partial = out / SCRATCH / "skipped.csv.partial"
    partial.write_text(text.getvalue(), encoding="utf-8")
    commit(partial, out / "skipped.csv")


def _check_skipped(
    out: Path,
    skipped: Sequence[tuple[str, ...]],
    made: dict[str, list[Receipt]],
    num_videos: int,
    max_skipped: float,
) -> None:
    for split, receipts in made.items():
        if not any(receipt.num_records for receipt in receipts):
            raise UserError(
                f"no video of the split {split} decodes, {skipped[0][1]}: {skipped[0][2]}; see {out}/skipped.csv"
            )
    if len(skipped) > max_skipped * num_videos:
        share = len(skipped) / num_videos
        raise UserError(
            f"{len(skipped)} of {num_videos} videos ({share:.1%}) do not decode, more than --max-skipped "
            f"{max_skipped:g}: see {out}/skipped.csv; to take the rest, run again with --max-skipped {share + 5e-4:.3f}"
        )

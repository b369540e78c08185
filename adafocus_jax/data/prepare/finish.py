"""The last step of preparing records: verifies that all shards are complete, then writes the metadata."""

from __future__ import annotations

import csv
import os
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from adafocus_jax.data.prepare.manifest import Plan
from adafocus_jax.data.prepare.place import Place, open_place
from adafocus_jax.data.prepare.shards import Receipt, read_receipts
from adafocus_jax.data.records.checksums import METADATA
from adafocus_jax.data.records.schema import CHECKSUMS, INFO_FILE, SCRATCH
from adafocus_jax.data.records.writer import write_metadata
from adafocus_jax.errors import UserError
from adafocus_jax.io import progress, writing

MAX_SKIPPED = 0.01
"""Share of all videos that may fail to decode, unless told otherwise."""


@dataclass(frozen=True)
class PrepareSummary:
    """What a folder of records holds, or this machine's part of it."""

    directory: str
    num_classes: int
    num_videos: dict[str, int]
    """Records per split."""
    num_frames: dict[str, int]
    """Frames per split."""
    num_bytes: int
    num_skipped: int
    """Videos that did not decode; ``skipped.csv`` lists them."""
    num_missing: int
    """Annotated videos without a file; ``missing.csv`` lists them."""
    complete: bool
    """Whether the records are ready to be read: False for one part of several."""
    seconds: float
    """Wall-clock time of this run."""


def finalize(
    out: str | Path, *, max_skipped: float = MAX_SKIPPED, threads: int | None = None
) -> PrepareSummary:
    """Verifies the checksum of every shard that the parts wrote to ``out``, and writes the metadata.

    Args:
      out: the folder of records; if each machine had its own, their contents, ``.prepare`` included, copied into one.
      max_skipped: share of all videos that may have failed to decode.
      threads: files to read at a time; None: one per core.

    Raises:
      UserError: nothing was prepared there; a shard is missing, damaged, or belongs to other settings; too many
        videos were skipped.
    """
    started = time.monotonic()
    place = open_place(out)
    plan = place.plan()
    try:
        _verify(place, _all_receipts(place, plan), threads or os.cpu_count() or 1)
        return finish(place, plan, max_skipped, started)
    except OSError as error:
        raise UserError(
            f"finalizing {out} stopped: {error}; fix this and run the same command again"
        ) from error


def finish(
    place: Place, plan: Plan, max_skipped: float, started: float, *, write: bool = True
) -> PrepareSummary:
    """Writes the metadata, for which all shards must exist; ``write=False``: it is written already.

    ``started``: when the run began, on the monotonic clock.

    Raises:
      UserError: a shard is missing; too many videos were skipped, or all of a split.
    """
    receipts, out = _all_receipts(place, plan), place.folder
    if write:
        skipped = [(receipt.split, *why) for receipt in receipts for why in receipt.skipped]
        write_csv(place, "skipped.csv", ("split", "video", "reason"), skipped)
        _check_skipped(place, plan, receipts, max_skipped)
        by_split = {split: [r for r in receipts if r.split == split] for split in plan.shards}
        write_metadata(
            out,
            plan.classes,
            {split: [len(r.names) for r in receipts] for split, receipts in by_split.items()},
            {split: sum(r.num_bytes for r in receipts) for split, receipts in by_split.items()},
            plan.max_labels,
            about=plan.about,
            checksums={receipt.shard: receipt.sha256 for receipt in receipts},
        )
        place.publish(*(name for name in METADATA if name != INFO_FILE), CHECKSUMS, INFO_FILE)
        for lock in (out / SCRATCH).glob("*.lock"):
            lock.unlink(missing_ok=True)
    place.close()
    return summarize(place, plan, receipts, started, complete=True)


def summarize(
    place: Place, plan: Plan, receipts: Sequence[Receipt], started: float, *, complete: bool
) -> PrepareSummary:
    """Sums up receipts."""
    num_videos, num_frames = dict.fromkeys(plan.shards, 0), dict.fromkeys(plan.shards, 0)
    for receipt in receipts:
        num_videos[receipt.split] += len(receipt.names)
        num_frames[receipt.split] += receipt.num_frames
    return PrepareSummary(
        directory=str(place),
        num_classes=len(plan.classes),
        num_videos=num_videos,
        num_frames=num_frames,
        num_bytes=sum(receipt.num_bytes for receipt in receipts),
        num_skipped=sum(len(receipt.skipped) for receipt in receipts),
        num_missing=plan.num_missing,
        complete=complete,
        seconds=time.monotonic() - started,
    )


def write_csv(place: Place, name: str, header: Sequence[str], rows: Iterable[tuple[str, ...]]) -> None:
    """Writes a sorted table of text into the folder of records."""
    with (
        writing(place.folder / name, folder=place.folder / SCRATCH) as partial,
        open(partial, "w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        csv.writer(file).writerows([header, *sorted(rows)])
    place.publish(name)


def _all_receipts(place: Place, plan: Plan) -> list[Receipt]:
    receipts = read_receipts(place, plan)
    names = [path.name for _, path in plan.shard_paths(place.folder)]
    if absent := [name for name, receipt in zip(names, receipts, strict=True) if receipt is None]:
        raise UserError(
            f"{len(absent)} of {len(names)} shards are missing, or belong to other settings or videos; the first "
            f"is {place}/{absent[0]}: wait for the processes that write them, or write them again, then run "
            f"adafocus prepare --finalize {place}"
        )
    return [receipt for receipt in receipts if receipt is not None]


def _verify(place: Place, receipts: Sequence[Receipt], threads: int) -> None:
    total = sum(len(receipt.names) for receipt in receipts)
    with ThreadPoolExecutor(threads) as pool, progress("verifying", total) as advance:
        checksums = pool.map(place.checksum, [receipt.shard for receipt in receipts])
        for receipt, checksum in zip(receipts, checksums, strict=True):
            if checksum != receipt.sha256:
                raise UserError(
                    f"the shard {place}/{receipt.shard} is damaged, as its checksum differs: remove it, write it again "
                    f"with the command that wrote it, then run adafocus prepare --finalize {place}"
                )
            advance(len(receipt.names))


def _check_skipped(place: Place, plan: Plan, receipts: Sequence[Receipt], max_skipped: float) -> None:
    for split in plan.shards:
        mine = [receipt for receipt in receipts if receipt.split == split]
        if not any(receipt.names for receipt in mine):
            video, reason = mine[0].skipped[0]
            raise UserError(
                f"no video of the split {split} decodes, {video}: {reason}; see {place}/skipped.csv"
            )
    count, total = sum(len(receipt.skipped) for receipt in receipts), plan.num_videos
    if count > max_skipped * total:
        raise UserError(
            f"{count} of {total} videos ({count / total:.1%}) do not decode, more than "
            f"max_skipped={max_skipped:g}: see {place}/skipped.csv; to accept the rest, run again with "
            f"max_skipped={count / total + 5e-4:.3f}"
        )

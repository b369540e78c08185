"""Looks at every video before any work is done: which would be skipped, and why."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from adafocus_jax.data.datasets.entries import ReadOptions, check_entry
from adafocus_jax.data.datasets.entry import Entry
from adafocus_jax.data.media.frames import DecodeError
from adafocus_jax.data.prepare.prepare import read_table
from adafocus_jax.data.prepare.reading import read_video_or_fail
from adafocus_jax.errors import UserError
from adafocus_jax.io import progress


@dataclass(frozen=True)
class CheckSummary:
    """What ``prepare`` would do with a data set."""

    num_classes: int
    num_videos: dict[str, int]
    """Videos per split, those that would be skipped included."""
    skipped: list[tuple[str, str, str]]
    """(split, video, reason) of those that would be skipped, sorted."""
    num_missing: int
    """Videos that the annotations name and that are not there."""
    seconds: float

    @property
    def skipped_frac(self) -> float:
        """Share of the videos that would be skipped."""
        return len(self.skipped) / sum(self.num_videos.values())


def check(
    source: str | Path,
    *,
    videos: str | Path | None = None,
    annotations: str | Path | None = None,
    read: ReadOptions | None = None,
    classes: str | Path | None = None,
    columns: Sequence[str] | None = None,
    trim: bool | None = None,
    val_fraction: float | None = None,
    val_src: str | Path | None = None,
    workers: int | None = None,
    seed: int = 0,
) -> CheckSummary:
    """Reads every file of a data set, decodes the first and last frames alone, and writes nothing.

    What lies between may still be damaged. The arguments are those of ``prepare``; ``workers`` are threads.

    Raises:
      UserError: arguments, lists or folders that do not fit.
    """
    started = time.monotonic()
    options = {"trim": trim, "val_fraction": val_fraction, "classes_file": classes, "val_src": val_src}
    table = read_table(source, videos, annotations, {**options, "columns": columns, "seed": seed})
    entries = [(split, entry) for split, part in table.splits.items() for entry in part]
    read = read or ReadOptions()
    with (
        ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool,
        progress("checking", len(entries)) as advance,
    ):
        skipped = []
        for (split, entry), reason in zip(
            entries, pool.map(lambda one: _reason(one[1], read), entries), strict=True
        ):
            if reason is not None:
                skipped.append((split, entry.name, reason))
            advance(1)
    return CheckSummary(
        num_classes=len(table.classes),
        num_videos={split: len(part) for split, part in table.splits.items()},
        skipped=sorted(skipped),
        num_missing=sum(map(len, table.missing.values())),
        seconds=time.monotonic() - started,
    )


def _reason(entry: Entry, options: ReadOptions) -> str | None:
    try:
        read_video_or_fail(partial(check_entry, entry, options), entry.path)
    except UserError:  # Not the file's fault: something is not installed, or storage fails.
        raise
    except DecodeError as error:
        return " ".join(str(error).split())
    except Exception as error:  # One strange file must not end the check.
        return " ".join(f"{type(error).__name__}: {error}".split())
    return None

"""Writes shards of records from video files in worker processes, one whole shard at a time."""

from __future__ import annotations

import contextlib
import fcntl
import json
import multiprocessing
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing.context import SpawnContext
from pathlib import Path
from typing import Any

from adafocus_jax.data.datasets.annotations import Entry
from adafocus_jax.data.datasets.entries import ReadOptions, iter_entry
from adafocus_jax.data.media.video import DecodeError, mean_fps
from adafocus_jax.data.media.worker_process import MAIN_GUARD, start_worker
from adafocus_jax.data.prepare.manifest import Plan
from adafocus_jax.data.prepare.place import Place
from adafocus_jax.data.prepare.reading import read_video_or_fail
from adafocus_jax.data.records.schema import (
    SCRATCH,
    encode_frame,
    encode_record,
    receipt_path,
    record_features,
)
from adafocus_jax.data.records.storage import file_checksum, read_remote, remote_size, store_file
from adafocus_jax.data.records.writer import ShardWriter
from adafocus_jax.errors import UserError
from adafocus_jax.io import progress, remove_partials, write_json

MAX_RECORD_BYTES = 2**31 - 2**25
"""JPEG images of one video: a record is a protocol buffer, which ends at 2 GiB."""

_POLL_SEC = 0.2
_REQUESTS = 16  # at a time
_NOT_BEGUN = -1


@dataclass(frozen=True)
class FrameFormat:
    """How frames are read and stored."""

    size: int
    """Short side in pixels."""
    fps: float | None
    """Highest frame rate; None keeps all frames."""
    quality: int
    """JPEG quality, 1…100."""
    read: ReadOptions


@dataclass(frozen=True)
class Receipt:
    """What a finished shard holds, and what was skipped."""

    shard: str
    """File name."""
    split: str
    plan: str
    """Digest of the plan that the shard is part of."""
    names: list[str]
    """The videos in it, in order."""
    num_frames: int
    num_bytes: int
    sha256: str
    skipped: list[tuple[str, str]]
    """(video, reason) of those that did not decode."""


def read_receipt(path: Path, plan: str, url: str = "") -> Receipt | None:
    """The receipt of a finished shard; None if there is none, or it belongs to another plan.

    ``url``: the remote folder that the shard is in; empty: it is at ``path``.
    """
    if url:
        text, size = read_remote(f"{url}/{SCRATCH}/{path.name}.json"), remote_size(f"{url}/{path.name}")
    else:
        try:
            text, size = receipt_path(path).read_bytes(), path.stat().st_size
        except FileNotFoundError:
            return None
    receipt = None if text is None else Receipt(**json.loads(text))
    return receipt if receipt and receipt.plan == plan and receipt.num_bytes == size else None


@dataclass(frozen=True)
class ShardJob:
    """One shard to write: its path, its videos, and how frames are stored."""

    path: Path
    split: str
    plan: str
    """Digest of the plan that the shard is part of."""
    entries: tuple[Entry, ...]
    classes: tuple[str, ...]
    frames: FrameFormat
    url: str = ""
    """The remote folder to move it to; empty: it stays."""

    def receipt(self) -> Receipt | None:
        """The receipt of the finished shard; None if it is not finished."""
        return read_receipt(self.path, self.plan, self.url)

    def make(self) -> Generator[int, None, None]:
        """Writes the shard and then its receipt; yields how many videos are done, before each and at the end.

        A shard that exists, or that another process is writing, is left alone. Stopped early, it leaves nothing behind.

        Raises:
          OSError: the shard cannot be written.
          UserError: a package that reads this kind of file is not installed, storage does not give a video, or the
            shard cannot be moved.
        """
        with _try_lock(self.path) as locked:
            if locked and self.receipt() is None:
                if read_receipt(self.path, self.plan) is None:
                    yield from self._make()
                if self.url:
                    self._move()
        yield len(self.entries)

    def _make(self) -> Generator[int, None, None]:
        features = record_features(self.classes)
        num_frames, names, skipped = 0, [], []
        with ShardWriter(self.path) as shard:
            for position, entry in enumerate(self.entries):
                yield position
                try:
                    frames, times_sec = read_video_or_fail(partial(self._read, entry), entry.path)
                except UserError:  # Not the file's fault: a package is not installed, or storage fails.
                    raise
                except DecodeError as error:
                    skipped.append((entry.name, " ".join(str(error).split())))
                except Exception as error:  # One odd file must not end a run of hours.
                    skipped.append((entry.name, " ".join(f"{type(error).__name__}: {error}".split())))
                else:
                    fps = mean_fps(times_sec)
                    shard.write(encode_record(features, frames, entry.labels, entry.name, fps, times_sec))
                    names.append(entry.name)
                    num_frames += len(frames)
        num_bytes, checksum = self.path.stat().st_size, file_checksum(self.path)
        receipt = Receipt(
            self.path.name, self.split, self.plan, names, num_frames, num_bytes, checksum, skipped
        )
        write_json(receipt_path(self.path), asdict(receipt))

    def _move(self) -> None:
        receipt = receipt_path(self.path)
        store_file(self.path, f"{self.url}/{self.path.name}")
        store_file(receipt, f"{self.url}/{SCRATCH}/{receipt.name}")
        self.path.unlink()
        receipt.unlink()

    def _read(self, entry: Entry) -> tuple[list[bytes], list[float]]:
        # Encoded one by one, so that a long video takes the memory of its JPEG images alone.
        wanted, frames, times_sec, num_bytes = self.frames, list[bytes](), list[float](), 0
        for time_sec, frame in iter_entry(
            entry, short_side=wanted.size, max_fps=wanted.fps, options=wanted.read
        ):
            frames.append(encode_frame(frame, wanted.quality))
            times_sec.append(time_sec)
            if (num_bytes := num_bytes + len(frames[-1])) > MAX_RECORD_BYTES:
                raise DecodeError(
                    f"too long: its first {time_sec:.0f} s take {MAX_RECORD_BYTES / 1e9:.1f} GB as JPEG images, as "
                    "much as a record holds; store fewer frames a second or smaller ones, or cut it"
                )
        return frames, times_sec


def make_jobs(
    place: Place, plan: Plan, assigned: Mapping[str, Sequence[tuple[Entry, ...]]], frames: FrameFormat
) -> list[ShardJob]:
    """A job for each shard of the plan; ``assigned``: the entries of each shard, by split."""
    entries = (part for parts in assigned.values() for part in parts)
    return [
        ShardJob(path, split, plan.digest, part, plan.classes, frames, place.url)
        for (split, path), part in zip(plan.shard_paths(place.folder), entries, strict=True)
    ]


def read_receipts(place: Place, plan: Plan) -> list[Receipt | None]:
    """The receipts of all shards of the plan, in order; None for those that are not finished."""
    paths = [path for _, path in plan.shard_paths(place.folder)]
    with ThreadPoolExecutor(_REQUESTS) as pool:
        return list(pool.map(lambda path: read_receipt(path, plan.digest, place.url), paths))


@contextlib.contextmanager
def _try_lock(path: Path) -> Iterator[bool]:
    """Yields whether this process holds the lock of the shard. The system frees it when the process ends in any way."""
    scratch = path.parent / SCRATCH
    scratch.mkdir(parents=True, exist_ok=True)
    with open(scratch / f"{path.name}.lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        except OSError:
            pass  # A file system without locks: two writers at once write the same bytes, each to a file of its own.
        else:
            for target in (path, receipt_path(path)):
                remove_partials(target, scratch)
        yield True


def make_shards(jobs: Sequence[ShardJob], workers: int) -> None:
    """Writes the shards in ``workers`` processes (0: in this one), with progress on standard error.

    Each process needs memory for one video's JPEG images and a few frames.

    Raises:
      OSError: a shard cannot be written.
      UserError: a worker was killed. No shard is left half written, and finished ones stay.
    """
    if not jobs:
        return
    context = multiprocessing.get_context("spawn")
    positions = context.RawArray("q", [_NOT_BEGUN] * len(jobs))
    with progress("preparing", sum(len(job.entries) for job in jobs)) as advance:
        tracker = _Tracker(jobs, positions, advance)
        if workers == 0:
            for number, job in enumerate(jobs):
                for position in job.make():
                    positions[number] = position
                    tracker.refresh()
        else:
            _make_in_processes(jobs, min(workers, len(jobs)), context, positions, tracker)


def _make_in_processes(
    jobs: Sequence[ShardJob], workers: int, context: SpawnContext, positions: Any, tracker: _Tracker
) -> None:
    stop = context.Event()
    pool = ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(positions, stop))
    try:
        pending = {pool.submit(_make_in_worker, number, job) for number, job in enumerate(jobs)}
        while pending:
            done, pending = wait(pending, timeout=_POLL_SEC, return_when=FIRST_COMPLETED)
            tracker.refresh()
            for future in done:
                future.result()
    except BrokenProcessPool as error:
        if not (videos := tracker.current()):
            raise UserError(
                "the worker processes ended as they started; if they left no message above, they were killed, perhaps "
                f"out of memory. {MAIN_GUARD}"
            ) from error
        raise UserError(
            f"a worker process was killed, perhaps out of memory, at {videos}: run the same command again to resume, "
            "with fewer `workers`, or without that video"
        ) from error
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


_positions: Any = None
_stop: Any = None


def _start_worker(positions: Any, stop: Any) -> None:
    global _positions, _stop
    _positions, _stop = positions, stop
    start_worker()


def _make_in_worker(number: int, job: ShardJob) -> None:
    with contextlib.closing(job.make()) as steps:
        for position in steps:
            _positions[number] = position
            if _stop.is_set():
                return


class _Tracker:
    """Adds up what the workers have done."""

    def __init__(
        self, jobs: Sequence[ShardJob], positions: Sequence[int], advance: Callable[[int], None]
    ) -> None:
        """``positions[job]``: how many videos the job has done; shared with the workers."""
        self._jobs, self._positions, self._advance = jobs, positions, advance
        self._done = 0

    def refresh(self) -> None:
        """Reports what was done since the last call."""
        done = sum(max(position, 0) for position in self._positions)
        self._advance(done - self._done)
        self._done = done

    def current(self) -> str:
        """The videos being read: at most one per worker."""
        places = zip(self._jobs, self._positions, strict=True)
        return " or ".join(job.entries[at].path for job, at in places if _NOT_BEGUN < at < len(job.entries))

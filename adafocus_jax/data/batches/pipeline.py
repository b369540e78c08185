"""Records to batches: what is in a batch depends on the seed and its number alone.

Training example ``e = step * batch_size + row`` belongs to epoch ``e // n`` and is record ``permutation_epoch(e % n)``;
its random numbers come from (seed, epoch, record). So a run continues at any step, with any number of workers, threads
and processes, bit for bit. That holds for a record that does not read, too: with ``on_bad_record="skip"`` the next good
one of the epoch's order stands in for it, with random numbers of its own.
"""

from __future__ import annotations

import functools
import gc
import logging
import math
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import grain
import numpy as np
from absl import flags

from adafocus_jax.data.batches.clips import ClipSpec, ClipWriter
from adafocus_jax.data.batches.cuts import apply_cut
from adafocus_jax.data.batches.sampling import segment_indices
from adafocus_jax.data.batches.sources import Source
from adafocus_jax.data.media.video import read_chosen
from adafocus_jax.data.media.worker_process import start_worker
from adafocus_jax.data.records.order import Order
from adafocus_jax.data.records.remote import RemoteSource
from adafocus_jax.data.records.schema import RecordError
from adafocus_jax.errors import UserError

log = logging.getLogger(__name__)

OnBadRecord = Literal["fail", "skip"]
Batch = dict[str, np.ndarray]
"""The fields of ``VideoBatch``, for B videos of this process:

``frames`` ``[B, N, S, S, 3]`` uint8; ``label`` ``[B]`` int32; ``labels`` ``[B, L]`` int32, −1 pads, L the same for the
whole data set; ``mask`` ``[B]`` bool, False for padding; ``index`` ``[B]`` int32, the record, −1 for padding; and
``glance`` ``[B, G, S, S, 3]`` uint8 if the spec asks for it.
"""


class Clip(NamedTuple):
    """A clip as the model sees it."""

    frames: np.ndarray
    """``[N, S, S, 3]`` uint8."""
    times_sec: np.ndarray
    """``[N]`` float: where the frames stand in the video, in seconds."""
    glance: np.ndarray | None
    """``[G, S, S, 3]`` uint8, if the spec asks for it."""


def train_batches(
    source: Source,
    spec: ClipSpec,
    *,
    batch_size: int,
    seed: int,
    num_steps: int,
    start_step: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    num_workers: int = 0,
    num_threads: int = 2,
    on_bad_record: OnBadRecord = "fail",
    max_bad_frac: float = 0.001,
) -> Iterator[Batch]:
    """Yields this process's part of the global batches ``start_step`` … ``num_steps − 1``.

    Every record comes exactly once per epoch, in an order of its own; batches run on across the end of an epoch.

    Memory: one batch takes ``B · (N + G) · S² · 3`` bytes for the B videos of this process (B=32, N=48, S=224: 231
    MB). Without workers, ``num_threads`` batches are made and ``num_threads`` wait; each worker holds ``num_threads``
    + 3 of them, 3 in shared memory (``/dev/shm``). A thread also holds one record, or one video file
    of up to 64 MiB, or the N + G frames of a larger one, and one decoded frame.

    Args:
      source: the videos.
      spec: what a clip is.
      batch_size: of the global batch; each process makes a contiguous slice of every one.
      seed: 0 or more. Fixes order, frames, label, crop and flip.
      num_steps: where the run ends, counted from its beginning.
      start_step: the first step wanted: the run's own step when it continues.
      process_index: which slice, in 0…process_count−1.
      process_count: number of slices.
      num_workers: processes that decode, for many cores; 0 decodes in threads of this one. Workers are spawned:
        a script needs ``if __name__ == "__main__":``.
      num_threads: threads that decode, in each worker or here.
      on_bad_record: ``"fail"`` stops at a record that does not read; ``"skip"`` takes another in its place, and
        logs its shard, position and video and how many there were.
      max_bad_frac: ``"skip"`` stops when more than this share of the records, rounded up, did not read, as counted
        by each process.

    Raises:
      UserError: there are fewer records than a batch takes, or the processes do not divide it; later, as
        RecordError, a record does not read, or a worker process was killed, or remote shards do not come.
    """
    rows = _local_rows(batch_size, process_index, process_count)
    if len(source) < batch_size:
        raise UserError(
            f"batch size {batch_size} is more than the {len(source)} training videos: "
            f"give {len(source)} or less, or more videos"
        )
    if seed < 0:
        raise UserError(f"seed {seed} is negative: give 0 or more")
    max_bad = _max_bad(source, on_bad_record, max_bad_frac)
    num_batches = max(0, num_steps - start_step)
    batches = _Batches(source, spec, seed, batch_size, rows, start_step, num_batches, max_bad)
    elements = _iterate(batches, num_workers, num_threads)
    return _without_bad(_fetch_ahead(elements, batches), source, max_bad, "another stands in")


def eval_batches(
    source: Source,
    spec: ClipSpec,
    *,
    batch_size: int,
    process_index: int = 0,
    process_count: int = 1,
    num_workers: int = 0,
    num_threads: int = 2,
    on_bad_record: OnBadRecord = "fail",
    max_bad_frac: float = 0.001,
) -> Iterator[Batch]:
    """Yields this process's part of every record once, in order, cut as at test; the last batch is padded.

    All processes yield the same number of full batches; padding has ``mask`` False, and so has a record that was
    skipped. Arguments, memory and errors as for ``train_batches``, but there may be fewer records than a batch
    takes.
    """
    rows = _local_rows(batch_size, process_index, process_count)
    max_bad = _max_bad(source, on_bad_record, max_bad_frac)
    batches = _Batches(source, spec, None, batch_size, rows, 0, -(-len(source) // batch_size), max_bad)
    elements = _iterate(batches, num_workers, num_threads)
    return _without_bad(_fetch_ahead(elements, batches), source, max_bad, "it is not scored")


def load_clip(path: str | Path, spec: ClipSpec) -> Clip:
    """Reads the test clip of a video file, as ``eval_batches`` cuts it from a record.

    Raises:
      DecodeError: the video does not decode.
    """
    candidates, counts = spec.num_candidates, [n for n in (spec.num_candidates, spec.num_glance) if n]
    chosen = read_chosen(
        path,
        lambda total: np.concatenate([segment_indices(total, count) for count in counts]),
        short_side=spec.short_side,
    )
    height, width, _ = chosen.frames[0].shape
    cut = spec.cut(height, width, None)
    frames = np.empty((sum(counts), spec.image_size, spec.image_size, 3), np.uint8)
    for frame, out in zip(chosen.frames, frames, strict=True):
        apply_cut(frame, cut, out)
    glance = frames[candidates:] if spec.num_glance else None
    return Clip(frames[:candidates], chosen.times_sec[:candidates], glance)


def _local_rows(batch_size: int, process_index: int, process_count: int) -> range:
    if batch_size < 1 or batch_size % process_count:
        raise UserError(
            f"batch size {batch_size} does not divide over {process_count} processes: give a multiple of that"
        )
    local = batch_size // process_count
    return range(process_index * local, (process_index + 1) * local)


def _max_bad(source: Source, on_bad_record: OnBadRecord, max_bad_frac: float) -> int:
    if on_bad_record not in ("fail", "skip"):
        raise UserError(f"on_bad_record {on_bad_record!r} is not known: give fail or skip")
    if not 0 <= max_bad_frac <= 1:
        raise UserError(f"max_bad_frac {max_bad_frac} is not valid: give a share in 0…1")
    # Not all of them: something must be left to stand in.
    return min(math.ceil(max_bad_frac * len(source)), len(source) - 1) if on_bad_record == "skip" else 0


def _without_bad(elements: Iterator[_Element], source: Source, max_bad: int, instead: str) -> Iterator[Batch]:
    """The batches alone; says which records did not read, each once, and stops when there are too many."""
    seen: set[int] = set()
    for batch, bad in elements:
        for index, message in bad:
            if index not in seen:
                seen.add(index)
                log.warning("%s: %s; %d of %d videos so far", message, instead, len(seen), len(source))
        if len(seen) > max_bad:
            raise _too_many(len(seen), len(source), bad[-1][1])
        yield batch


def _too_many(count: int, total: int, last: str) -> RecordError:
    return RecordError(
        f"{count} of {total} videos do not read, more than max_bad_frac allows; the last: {last}; "
        "check the disk, prepare again, or allow more"
    )


def _iterate(batches: _Batches, num_workers: int, num_threads: int) -> Iterator[_Element]:
    if not flags.FLAGS.is_parsed():  # grain reads absl flags, also where no absl program parsed them
        flags.FLAGS.mark_as_parsed()
    options = grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=num_threads)
    dataset = grain.MapDataset.source(batches).to_iter_dataset(options)
    if not len(batches):
        return iter(())
    if not num_workers:
        return iter(dataset)
    processes = grain.MultiprocessingOptions(min(num_workers, len(batches)), per_worker_buffer_size=1)
    return _closing(dataset.mp_prefetch(processes, start_worker))


def _fetch_ahead(elements: Iterator[_Element], batches: _Batches) -> Iterator[_Element]:
    """The elements; while they are read, remote shards that come next are fetched."""
    if not isinstance(batches.source, RemoteSource):
        return elements
    return batches.source.fetching_ahead(elements, map(batches.place, range(len(batches))))


def _closing(dataset: grain.IterDataset) -> Iterator[_Element]:
    iterator = iter(dataset)
    try:
        yield from iterator
    except RuntimeError as error:
        if not (code := re.search(r"terminated unexpectedly with exit code -(\d+)", str(error))):
            raise
        raise UserError(
            f"a data worker was killed by {signal.Signals(int(code[1])).name}, perhaps for want of memory (SIGKILL) or "
            "of room in /dev/shm (SIGBUS): start again, with smaller batches or fewer workers or threads"
        ) from error
    finally:
        iterator.close()
        # The iterator's cycles keep the last batches in shared memory, which Python reports as leaked at exit.
        del iterator
        gc.collect()


_PADDING = {"labels": -1, "index": -1}
_Bad = list[tuple[int, str]]
"""Record and message of those that did not read."""
_Element = tuple[Batch, _Bad]


class _Batches:
    """Random access to the batches of one process. One element is a whole batch, written in place: no stacking."""

    def __init__(
        self,
        source: Source,
        spec: ClipSpec,
        seed: int | None,
        batch_size: int,
        rows: range,
        start_step: int,
        num_batches: int,
        max_bad: int,
    ) -> None:
        """``seed`` None: evaluation. ``rows``: which rows of each global batch to make. ``max_bad`` 0: fail."""
        self.source, self._spec, self._seed = source, spec, seed
        self._order = source.order if isinstance(source, RemoteSource) else Order([len(source)], 1)
        self._batch_size, self._rows = batch_size, rows
        self._start_step, self._num_batches = start_step, num_batches
        self._max_bad = max_bad

    def __len__(self) -> int:
        return self._num_batches

    def __getitem__(self, position: int) -> _Element:
        batch, bad = self._empty(), dict[int, str]()
        first = (self._start_step + position) * self._batch_size
        for slot, row in enumerate(self._rows):
            self._fill({name: array[slot, ...] for name, array in batch.items()}, first + row, bad)
        return batch, list(bad.items())

    def place(self, position: int) -> tuple[int, int | None, int | None]:
        """Where in its epoch an element begins, and the seeds of that epoch and the next."""
        epoch, place = divmod((self._start_step + position) * self._batch_size, len(self.source))
        if self._seed is None:
            return place, None, None
        return place, _epoch_seed(self._seed, epoch), _epoch_seed(self._seed, epoch + 1)

    def _empty(self) -> Batch:
        size, spec = len(self._rows), self._spec
        batch: Batch = {
            "frames": np.empty((size, spec.num_candidates, spec.image_size, spec.image_size, 3), np.uint8),
            "label": np.empty(size, np.int32),
            "labels": np.empty((size, self.source.max_labels), np.int32),
            "mask": np.empty(size, bool),
            "index": np.empty(size, np.int32),
        }
        if spec.num_glance is not None:
            batch["glance"] = np.empty((size, spec.num_glance, *batch["frames"].shape[2:]), np.uint8)
        return batch

    def _fill(self, row: Batch, example: int, bad: dict[int, str]) -> None:
        """Writes a global example, or the next that reads, or padding, into views of one row.

        Records that do not read are added to ``bad``.
        """
        for index, rng in self._candidates(example):
            try:
                return self._write(row, index, rng)
            except RecordError as error:
                if not self._max_bad:
                    raise
                bad[index] = str(error)
                if len(bad) > self._max_bad:
                    raise _too_many(len(bad), len(self.source), str(error)) from error
        for name, values in row.items():
            values[...] = _PADDING.get(name, 0)

    def _candidates(self, example: int) -> Iterator[tuple[int, np.random.Generator | None]]:
        """Record and random numbers of a global example, then of those that may stand in; none for padding."""
        count = len(self.source)
        if self._seed is None:
            if example < count:
                yield example, None
            return
        epoch, place = divmod(example, count)
        seed = _epoch_seed(self._seed, epoch)
        for attempt in range(count):
            index = self._order.index((place + attempt) % count, seed)
            yield index, np.random.default_rng((self._seed, epoch, index, attempt))

    def _write(self, row: Batch, index: int, rng: np.random.Generator | None) -> None:
        record = self.source[index]
        labels = np.array(record.labels)
        drawn = 0 if rng is None else rng.integers(len(labels))
        writer = ClipWriter(self._spec, [row[name] for name in ("frames", "glance") if name in row], rng)
        for frame in record.read(writer.choose, writer.reduce):
            writer.write(frame)
        if writer.cut.flip and self._spec.flip_labels is not None:
            labels = np.array(self._spec.flip_labels)[labels]
        row["mask"][...], row["index"][...] = True, index
        row["labels"][...], row["label"][...] = _PADDING["labels"], labels[drawn]
        row["labels"][: len(labels)] = labels


@functools.lru_cache(maxsize=4)
def _epoch_seed(seed: int, epoch: int) -> int:
    return int(np.random.SeedSequence((seed, epoch)).generate_state(1)[0])

"""Batches for training and evaluation: what is in a batch depends on the seed and its number alone.

Training example ``e = step * batch_size + row`` is index ``e`` of ``clip_dataset(…).repeat()``: place ``e % n`` of
epoch ``e // n``. So a run resumes at any step, with any number of workers, threads and processes, bit for bit. That
holds for a record that does not read, too: with ``on_bad_record="skip"`` it is replaced by the next readable one of the
epoch's order, with random numbers of its own.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator, Sequence

import grain
import numpy as np
from absl import flags

from adafocus_jax.data.batches.clips import ClipSpec
from adafocus_jax.data.batches.dataset import (
    SKIPPED,
    Arrays,
    BatchMemory,
    OnBadRecord,
    blank_clip,
    clip_dataset,
    epoch_seed,
    max_bad_records,
    too_many_bad,
)
from adafocus_jax.data.batches.sources import Source
from adafocus_jax.data.batches.transforms import Transform, apply_transforms
from adafocus_jax.data.batches.workers import iterate_in_workers
from adafocus_jax.data.records.remote import RemoteSource
from adafocus_jax.errors import UserError

log = logging.getLogger(__name__)

Batch = dict[str, np.ndarray]
"""The fields of ``VideoBatch``, for B videos of this process: ``dataset.Arrays`` with a leading axis of B."""


def train_batches(
    source: Source,
    spec: ClipSpec,
    *,
    batch_size: int,
    seed: int,
    num_steps: int,
    start_step: int = 0,
    transforms: Sequence[Transform] = (),
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
      seed: 0 or more. Fixes order, frames, label, crop, flip and transforms.
      num_steps: where the run ends, counted from its beginning.
      start_step: the first step wanted: the run's own step when it resumes.
      transforms: of single clips, one after another; see ``transforms.make_transforms``.
      process_index: which slice, in 0…process_count−1.
      process_count: number of slices.
      num_workers: processes that decode, for many cores; 0 decodes in threads of this one. Workers are spawned:
        a script needs ``if __name__ == "__main__":``.
      num_threads: threads that decode, in each worker or here.
      on_bad_record: ``"fail"`` stops at a record that does not read; ``"skip"`` replaces it, and logs its shard,
        position and video and how many there were.
      max_bad_frac: ``"skip"`` stops when more than this share of the records, rounded up, did not read, as counted
        by each process.

    Raises:
      UserError: there are fewer records than a batch takes, or the processes do not divide it; later, as
        RecordError, a record does not read, or a worker process was killed, or remote shards do not come.
    """
    local = _local_size(batch_size, process_count)
    if len(source) < batch_size:
        raise UserError(
            f"batch size {batch_size} is more than the {len(source)} training videos: "
            f"give {len(source)} or less, or more videos"
        )
    memory = BatchMemory(local)
    bad: dict[str, OnBadRecord | float] = {"on_bad_record": on_bad_record, "max_bad_frac": max_bad_frac}
    order = source.order(batch_size) if isinstance(source, RemoteSource) else None
    clips = clip_dataset(source, spec, seed, order=order, memory=memory, **bad)  # type: ignore[arg-type]
    clips = apply_transforms(clips, transforms).repeat()
    # Of every global batch, its process_index-th part.
    parts = clips.batch(local, drop_remainder=True, batch_fn=memory.batch)[process_index::process_count]
    batches = parts[start_step:num_steps] if start_step < num_steps else parts[:0]
    elements = _iterate(batches, num_workers, num_threads)
    if isinstance(source, RemoteSource) and order is not None:
        starts = range(start_step * batch_size, num_steps * batch_size, batch_size)
        rows = range(process_index * local, (process_index + 1) * local)
        elements = source.fetching_ahead(elements, order, starts, rows, functools.partial(epoch_seed, seed))
    max_bad = max_bad_records(source, on_bad_record, max_bad_frac)
    return _without_skipped(elements, source, max_bad, "it is replaced by the next readable one")


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
    """Yields this process's part of every record once, cut as at test; the last batch is padded.

    Records come in their own order; of remote ones each of several processes reads a lane of its own (``Order``), so
    sort by ``index`` what they find.

    All processes yield the same number of full batches; padding has ``mask`` False, and so has a record that was
    skipped. Arguments, memory and errors as for ``train_batches``, but there may be fewer records than a batch
    takes.
    """
    local = _local_size(batch_size, process_count)
    memory = BatchMemory(local)
    bad: dict[str, OnBadRecord | float] = {"on_bad_record": on_bad_record, "max_bad_frac": max_bad_frac}
    order = source.own_order(batch_size, process_count) if isinstance(source, RemoteSource) else None
    clips = clip_dataset(source, spec, order=order, memory=memory, **bad)  # type: ignore[arg-type]
    if missing := -len(source) % batch_size:
        padding = grain.MapDataset.source([blank_clip(spec, source.max_labels)] * missing)
        clips = grain.MapDataset.concatenate([clips, padding])
    batches = clips.batch(local, batch_fn=memory.batch)[process_index::process_count]
    elements = _iterate(batches, num_workers, num_threads)
    if isinstance(source, RemoteSource) and order is not None:
        rows = range(process_index * local, (process_index + 1) * local)
        elements = source.fetching_ahead(elements, order, range(0, len(source), batch_size), rows, None)
    max_bad = max_bad_records(source, on_bad_record, max_bad_frac)
    return _without_skipped(elements, source, max_bad, "it is not scored")


def _local_size(batch_size: int, process_count: int) -> int:
    if batch_size < 1 or batch_size % process_count:
        raise UserError(
            f"batch size {batch_size} does not divide over {process_count} processes: give a multiple of that"
        )
    return batch_size // process_count


def _without_skipped(
    elements: Iterator[Arrays], source: Source, max_bad: int, instead: str
) -> Iterator[Batch]:
    """The batches alone; logs which records do not read, each once, and stops when there are too many."""
    seen: set[int] = set()
    for batch in elements:
        skipped = batch.pop(SKIPPED, [])
        for index, message in skipped:
            if index not in seen:
                seen.add(index)
                log.warning("%s: %s; %d of %d videos so far", message, instead, len(seen), len(source))
        if len(seen) > max_bad:
            raise too_many_bad(len(seen), len(source), skipped[-1][1])
        yield batch


def _iterate(batches: grain.MapDataset[Arrays], num_workers: int, num_threads: int) -> Iterator[Arrays]:
    if not flags.FLAGS.is_parsed():  # grain reads absl flags, also where no absl program parsed them
        flags.FLAGS.mark_as_parsed()
    if not len(batches):
        return iter(())
    options = grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=num_threads)
    dataset = batches.to_iter_dataset(options)
    if not num_workers:
        return iter(dataset)
    return iterate_in_workers(dataset, min(num_workers, len(batches)))

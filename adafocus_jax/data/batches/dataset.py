"""The clips of a split as a ``grain.MapDataset``, which grain's own transformations take from there.

Index ``e`` of the dataset is place ``e % n`` of epoch ``e // n``, as everywhere in grain. Which record stands there and
how it is cut depend on (seed, e) alone; so ``repeat``, ``batch``, slices and ``random_map`` of grain keep every batch a
function of (seed, step), for any number of workers, threads and processes.

Two things are ours where grain has its own. The shuffle (``records.order.Order``): it goes through lanes of shards
where remote records do not fit the cache, and neighbouring seeds share no epoch's order. The random numbers of a clip:
they come from (seed, epoch, record, attempt), so that a run from an older version resumes with the clips it would have
had. Transforms on top draw from grain's ``random_map``.
"""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import grain
import numpy as np

from adafocus_jax.data.batches.clips import ClipSpec, ClipWriter
from adafocus_jax.data.batches.sources import Source
from adafocus_jax.data.records.order import Order
from adafocus_jax.data.records.remote import RemoteSource
from adafocus_jax.data.records.schema import RecordError
from adafocus_jax.errors import UserError

OnBadRecord = Literal["fail", "skip"]
Arrays = dict[str, Any]
"""Arrays by name: a clip, or a batch of clips with one more axis in front.

``frames`` ``[N, S, S, 3]`` uint8; ``glance`` ``[G, S, S, 3]`` uint8 if the spec asks for it; ``label`` ``[]`` int32;
``labels`` ``[L]`` int32, −1 pads, L the same for the whole data set; ``mask`` ``[]`` bool, False for padding; ``index``
``[]`` int32, the record, −1 for padding.
"""

SKIPPED = "skipped"
"""Key of the ``(record, message)`` pairs of those that do not read; there with ``on_bad_record="skip"`` alone."""

_PADDING = {"labels": -1, "index": -1}


class BatchMemory:
    """Memory of batches that clips are written into, so that batching copies no pixels.

    Each thread makes the clips of a batch one after another: the first allocates the batch, every clip gets the next
    row. What a transform replaced is stacked instead.
    """

    def __init__(self, num_rows: int = 1) -> None:
        """``num_rows``: clips of a batch."""
        self._num_rows, self._local = num_rows, threading.local()

    def __reduce__(self) -> tuple[Any, ...]:
        return BatchMemory, (self._num_rows,)

    def clip(self, spec: ClipSpec, max_labels: int) -> Arrays:
        """Views of the next row: the arrays of one clip, not yet written."""
        rows = getattr(self._local, "rows", [])
        if not rows or len(rows) == self._num_rows:
            self._local.batch, self._local.rows = _empty(self._num_rows, spec, max_labels), (rows := [])
        row = {name: array[len(rows), ...] for name, array in self._local.batch.items()}
        rows.append(row)
        return dict(row)

    def batch(self, clips: Sequence[Arrays]) -> Arrays:
        """The batch of ``clips``: a ``batch_fn`` for ``grain.MapDataset.batch``.

        Raises:
          UserError: clips differ in their arrays, as a transform or a second source may make them.
        """
        rows = self._local.__dict__.pop("rows", [])
        batch = self._local.__dict__.pop("batch", {})
        if not len(rows) == len(clips) == self._num_rows:  # after an error, or the last part of an epoch
            rows, batch = [{}] * len(clips), {}
        skipped = [bad for clip in clips for bad in clip.pop(SKIPPED, ())]
        found = {
            name: batch[name]
            if all(clip.get(name) is row.get(name, clip) for clip, row in zip(clips, rows, strict=True))
            else _stack(name, clips)
            for name in dict.fromkeys(name for clip in clips for name in clip)
        }
        return found | ({SKIPPED: skipped} if skipped else {})


def _stack(name: str, clips: Sequence[Arrays]) -> np.ndarray:
    arrays = [np.asarray(clip[name]) for clip in clips if name in clip]
    kinds = {(array.shape, array.dtype.name) for array in arrays}
    if len(kinds) > 1 or len(arrays) < len(clips):
        raise UserError(
            f"clips of one batch differ in {name!r}: {sorted(kinds)} in {len(arrays)} of {len(clips)} clips; all "
            "sources and transforms must give the same shape and dtype"
        )
    return np.stack(arrays)


def _empty(num_rows: int, spec: ClipSpec, max_labels: int) -> Arrays:
    side = (spec.image_size, spec.image_size, 3)
    batch = {
        "frames": np.empty((num_rows, spec.num_candidates, *side), np.uint8),
        "label": np.empty(num_rows, np.int32),
        "labels": np.empty((num_rows, max_labels), np.int32),
        "mask": np.empty(num_rows, bool),
        "index": np.empty(num_rows, np.int32),
    }
    if spec.num_glance is not None:
        batch["glance"] = np.empty((num_rows, spec.num_glance, *side), np.uint8)
    return batch


def clip_dataset(
    source: Source,
    spec: ClipSpec,
    seed: int | None = None,
    *,
    on_bad_record: OnBadRecord = "fail",
    max_bad_frac: float = 0.001,
    max_labels: int | None = None,
    order: Order | None = None,
    memory: BatchMemory | None = None,
) -> grain.MapDataset[Arrays]:
    """The clips of a split, one epoch long, as ``Arrays``; grain's transformations go on from there.

    Training takes a seed, and each epoch an order and cuts of its own, with every record once. Without a seed records
    come in their own order, cut as at test.

    Args:
      source: the videos.
      spec: what a clip is.
      seed: 0 or more fixes order, frames, label, crop and flip, and is the default seed of what grain does after; None:
        evaluation.
      on_bad_record: ``"fail"`` stops at a record that does not read. ``"skip"`` trains on the next one of the epoch's
        order that reads, with random numbers of its own, or leaves padding where there is no seed; clips then tell of
        it under ``SKIPPED``, and ``BatchMemory().batch`` is the ``batch_fn`` that keeps it.
      max_bad_frac: with ``"skip"``, the share of the records that may fail one after another, rounded up.
      max_labels: L of ``labels``; None: that of the source. The same for all where several sources are mixed.
      order: in which records come, such as ``order(batch_size)`` of a ``RemoteSource``, if all clips go to batches of
        that size; None: as if they were batches of one clip.
      memory: of batches to come, if clips go there in order; None: each clip gets memory of its own.

    Raises:
      UserError: an argument out of range; later, as RecordError, a record does not read, or remote shards do not come.

    Example:
      A second data set, a transform and grain's own reader::

        clips = grain.MapDataset.mix([clip_dataset(a, spec, 0), clip_dataset(b, spec, 1)], [3, 1])
        clips = clips.seed(0).random_map(lambda clip, rng: {**clip, "frames": jitter(clip["frames"], rng)})
        batches = clips.repeat().batch(32, drop_remainder=True)
        for batch in batches[start_step:].to_iter_dataset(grain.ReadOptions(num_threads=4, prefetch_buffer_size=4)):
            ...
    """
    if seed is not None and seed < 0:
        raise UserError(f"seed {seed} is negative: give 0 or more")
    if max_labels is not None and max_labels < source.max_labels:
        raise UserError(
            f"max_labels {max_labels} is not valid: give {source.max_labels} or more, as a video has them"
        )
    memory = memory or BatchMemory()
    reader = _ClipReader(
        source,
        spec,
        seed,
        max_bad_records(source, on_bad_record, max_bad_frac),
        source.max_labels if max_labels is None else max_labels,
        order or (source.order() if isinstance(source, RemoteSource) else Order([len(source)], 1)),
        memory,
    )
    places = grain.MapDataset.range(len(source))
    if seed is not None:
        places = places.seed(seed % 2**32)
    return places.map_with_index(reader)


def blank_clip(spec: ClipSpec, max_labels: int) -> Arrays:
    """The clip that pads the last batch of an evaluation: zeros, ``mask`` False."""
    clip = BatchMemory().clip(spec, max_labels)
    _blank(clip)
    return clip


def _blank(clip: Arrays) -> None:
    for name, values in clip.items():
        values[...] = _PADDING.get(name, 0)


def max_bad_records(source: Source, on_bad_record: OnBadRecord, max_bad_frac: float) -> int:
    """How many records may fail to read; 0: none.

    Raises:
      UserError: an argument out of range.
    """
    if on_bad_record not in ("fail", "skip"):
        raise UserError(f"on_bad_record {on_bad_record!r} is not valid: give fail or skip")
    if not 0 <= max_bad_frac <= 1:
        raise UserError(f"max_bad_frac {max_bad_frac} is not valid: give a fraction in [0, 1]")
    # Not all of them: something must be left to replace them.
    return min(math.ceil(max_bad_frac * len(source)), len(source) - 1) if on_bad_record == "skip" else 0


def too_many_bad(count: int, total: int, last: str) -> RecordError:
    """The error that ends a run in which more records fail to read than may."""
    return RecordError(
        f"{count} of {total} videos do not read, more than max_bad_frac allows; the last: {last}; "
        "check the disk, prepare again, or allow more"
    )


class _ClipReader(grain.transforms.MapWithIndex):
    """From an index of the dataset to the clip there."""

    def __init__(
        self,
        source: Source,
        spec: ClipSpec,
        seed: int | None,
        max_bad: int,
        max_labels: int,
        order: Order,
        memory: BatchMemory,
    ) -> None:
        """``max_bad`` 0: a record that does not read is an error."""
        self._source, self._spec, self._seed = source, spec, seed
        self._order, self._memory = order, memory
        self._max_bad, self._max_labels = max_bad, max_labels

    def map_with_index(self, index: int, element: int) -> Arrays:
        """The clip at ``index``, or of the next record that reads, or padding. ``element``: the place in its epoch."""
        clip = self._memory.clip(self._spec, self._max_labels)
        bad: list[tuple[int, str]] = []
        for record, rng in self._candidates(index // len(self._source), element):
            try:
                self._write(clip, record, rng)
                break
            except RecordError as error:
                if not self._max_bad:
                    raise
                bad.append((record, str(error)))
                if len(bad) > self._max_bad:
                    raise too_many_bad(len(bad), len(self._source), str(error)) from error
        else:
            _blank(clip)
        return {**clip, SKIPPED: bad} if bad else clip

    def _candidates(self, epoch: int, place: int) -> Iterator[tuple[int, np.random.Generator | None]]:
        """Record and random numbers of a place in an epoch, then of those that may replace it."""
        if self._seed is None:
            yield self._order.index(place, None), None
            return
        seed = epoch_seed(self._seed, epoch)
        for attempt in range(len(self._source)):
            record = self._order.index(place, seed, epoch, attempt)
            yield record, np.random.default_rng((self._seed, epoch, record, attempt))

    def _write(self, clip: Arrays, index: int, rng: np.random.Generator | None) -> None:
        record = self._source[index]
        labels = np.array(record.labels)
        drawn = 0 if rng is None else rng.integers(len(labels))
        writer = ClipWriter(self._spec, [clip[name] for name in ("frames", "glance") if name in clip], rng)
        for frame in record.read(writer.choose, writer.reduce):
            writer.write(frame)
        if writer.cut.flip and self._spec.flip_labels is not None:
            labels = np.array(self._spec.flip_labels)[labels]
        clip["mask"][...], clip["index"][...] = True, index
        clip["labels"][...], clip["label"][...] = _PADDING["labels"], labels[drawn]
        clip["labels"][: len(labels)] = labels


@functools.lru_cache(maxsize=4)
def epoch_seed(seed: int, epoch: int) -> int:
    """The seed of an epoch's order."""
    return int(np.random.SeedSequence((seed, epoch)).generate_state(1)[0])

"""Records to batches: what is in a batch depends on the seed and its number alone.

Training example ``e = step * batch_size + row`` belongs to epoch ``e // n`` and is record ``permutation_epoch(e % n)``;
its random numbers come from (seed, epoch, record). So a run continues at any step, with any number of workers, threads
and processes, bit for bit.
"""

from __future__ import annotations

import functools
import gc
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import grain
import numpy as np
from absl import flags
from grain.experimental import index_shuffle

from adafocus_jax.data.decode import read_chosen
from adafocus_jax.data.records import RecordError, RecordSource
from adafocus_jax.data.sampling import segment_indices
from adafocus_jax.data.transforms import SCALES, Cut, apply_cut, eval_cut, random_cut
from adafocus_jax.data.workers import start_worker
from adafocus_jax.errors import UserError

Batch = dict[str, np.ndarray]
"""The fields of :class:`adafocus_jax.types.VideoBatch`, for B videos of this process:

``frames`` ``[B, N, S, S, 3]`` uint8; ``label`` ``[B]`` int32; ``labels`` ``[B, L]`` int32, −1 pads, L the same for the
whole data set; ``mask`` ``[B]`` bool, False for padding; ``index`` ``[B]`` int32, the record, −1 for padding; and
``glance`` ``[B, G, S, S, 3]`` uint8 if the spec asks for it.
"""


@dataclass(frozen=True)
class ClipSpec:
    """What a clip is: how many frames of which size, and how they are cut.

    Raises:
        UserError: the test crop is larger than the resized frame, or a number is not positive.
    """

    num_candidates: int
    """N: frames per clip, one of each of N equal segments of the video."""
    image_size: int
    """S: side of the square frames in pixels."""
    resize: int | None = None
    """Short side at test, of which the middle S² pixels are taken; None: S · 256 / 224."""
    num_glance: int | None = None
    """G: glance frames sampled separately from the video; None: the model takes them from the candidates."""
    flip: bool = True
    """Mirror half of the training clips. Not where left and right have meaning."""
    scales: tuple[float, ...] = SCALES
    """Sides of the training crop as fractions of the short side; ``(1.0,)`` leaves position and flip alone."""
    place: float = 0.5
    """Where the test crop lies along the width of a frame: 0 left edge … 1 right edge."""
    augment: bool = True
    """False cuts training clips as at test (their frames are still drawn at random)."""

    def __post_init__(self) -> None:
        for name in ("num_candidates", "image_size", "num_glance"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise UserError(f"{name} {value} is not valid: give 1 or more")
        if self.short_side < self.image_size:
            raise UserError(
                f"resize {self.resize} is less than image_size {self.image_size}: give at least that"
            )
        if not 0 <= self.place <= 1:
            raise UserError(f"place {self.place} is not valid: give a share of the width, in [0, 1]")
        if not self.scales or not all(0 < scale <= 1 for scale in self.scales):
            raise UserError(
                f"scales {self.scales} are not valid: give fractions of the short side, in (0, 1]"
            )

    @property
    def short_side(self) -> int:
        """Short side of a test frame in pixels before the centre crop."""
        return self.image_size * 256 // 224 if self.resize is None else self.resize

    def cut(self, frame: np.ndarray, rng: np.random.Generator | None) -> Cut:
        """How the frames of a video of ``frame``'s size are cut: drawn from ``rng``, or as at test if that is None."""
        height, width = frame.shape[:2]
        if rng is None or not self.augment:
            size = {"short_side": self.short_side, "crop": self.image_size}
            return eval_cut(height, width, **size, place=self.place)
        return random_cut(height, width, rng, scales=self.scales, flip=self.flip)


class Clip(NamedTuple):
    """A clip as the model sees it."""

    frames: np.ndarray
    """``[N, S, S, 3]`` uint8."""
    times_sec: np.ndarray
    """``[N]`` float: where the frames stand in the video, in seconds."""
    glance: np.ndarray | None
    """``[G, S, S, 3]`` uint8, if the spec asks for it."""


def train_batches(
    source: RecordSource,
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
) -> Iterator[Batch]:
    """Yields this process's part of the global batches ``start_step`` … ``num_steps − 1``.

    Every record comes exactly once per epoch, in an order of its own; batches run on across the end of an epoch.

    Memory: one batch takes ``B · (N + G) · S² · 3`` bytes for the B videos of this process (B=32, N=48, S=224: 231
    MB). Without workers, ``num_threads`` batches are made ahead; each worker holds ``num_threads`` + 3 of them, 3 in
    shared memory (``/dev/shm``). A thread also holds one record and its N + G decoded frames.

    Args:
        source: the records.
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

    Raises:
        UserError: there are fewer records than a batch takes, or the processes do not divide it; later, as
            RecordError, a record does not read.
    """
    rows = _local_rows(batch_size, process_index, process_count)
    if len(source) < batch_size:
        raise UserError(
            f"batch size {batch_size} is more than the {len(source)} training videos: "
            f"give {len(source)} or less, or more videos"
        )
    if seed < 0:
        raise UserError(f"seed {seed} is negative: give 0 or more")
    batches = _Batches(source, spec, seed, batch_size, rows, start_step, max(0, num_steps - start_step))
    return _iterate(batches, num_workers, num_threads)


def eval_batches(
    source: RecordSource,
    spec: ClipSpec,
    *,
    batch_size: int,
    process_index: int = 0,
    process_count: int = 1,
    num_workers: int = 0,
    num_threads: int = 2,
) -> Iterator[Batch]:
    """Yields this process's part of every record once, in order, cut as at test; the last batch is padded.

    All processes yield the same number of full batches; padding has ``mask`` False. Arguments, memory and errors
    as for :func:`train_batches`, but there may be fewer records than a batch takes.
    """
    rows = _local_rows(batch_size, process_index, process_count)
    batches = _Batches(source, spec, None, batch_size, rows, 0, -(-len(source) // batch_size))
    return _iterate(batches, num_workers, num_threads)


def load_clip(path: str | Path, spec: ClipSpec) -> Clip:
    """Reads the test clip of a video file, as :func:`eval_batches` cuts it from a record.

    Raises:
        DecodeError: the video does not decode.
    """
    candidates, counts = spec.num_candidates, [n for n in (spec.num_candidates, spec.num_glance) if n]
    chosen = read_chosen(
        path,
        lambda total: np.concatenate([segment_indices(total, count) for count in counts]),
        short_side=spec.short_side,
    )
    cut = spec.cut(chosen.frames[0], None)
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


def _iterate(batches: _Batches, num_workers: int, num_threads: int) -> Iterator[Batch]:
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


def _closing(dataset: grain.IterDataset) -> Iterator[Batch]:
    iterator = iter(dataset)
    try:
        yield from iterator
    finally:
        iterator.close()
        # The iterator's cycles keep the last batches in shared memory, which Python reports as leaked at exit.
        del iterator
        gc.collect()


class _Batches:
    """Random access to the batches of one process. One element is a whole batch, written in place: no stacking."""

    def __init__(
        self,
        source: RecordSource,
        spec: ClipSpec,
        seed: int | None,
        batch_size: int,
        rows: range,
        start_step: int,
        num_batches: int,
    ) -> None:
        """``seed`` None: evaluation. ``rows``: which rows of each global batch to make."""
        self._source, self._spec, self._seed = source, spec, seed
        self._batch_size, self._rows = batch_size, rows
        self._start_step, self._num_batches = start_step, num_batches

    def __len__(self) -> int:
        return self._num_batches

    def __getitem__(self, position: int) -> Batch:
        batch = self._empty()
        first = (self._start_step + position) * self._batch_size
        for slot, row in enumerate(self._rows):
            index, rng = self._example(first + row)
            if index >= 0:
                self._fill(batch, slot, index, rng)
        return batch

    def _empty(self) -> Batch:
        size, spec = len(self._rows), self._spec
        batch: Batch = {
            "frames": np.zeros((size, spec.num_candidates, spec.image_size, spec.image_size, 3), np.uint8),
            "label": np.zeros(size, np.int32),
            "labels": np.full((size, self._source.max_labels), -1, np.int32),
            "mask": np.zeros(size, bool),
            "index": np.full(size, -1, np.int32),
        }
        if spec.num_glance is not None:
            batch["glance"] = np.zeros((size, spec.num_glance, *batch["frames"].shape[2:]), np.uint8)
        return batch

    def _example(self, example: int) -> tuple[int, np.random.Generator | None]:
        """Record and random numbers of a global example; record −1 is padding."""
        count = len(self._source)
        if self._seed is None:
            return (example if example < count else -1), None
        epoch, place = divmod(example, count)
        index = index_shuffle(place, count - 1, seed=_epoch_seed(self._seed, epoch), rounds=4)
        return index, np.random.default_rng((self._seed, epoch, index))

    def _fill(self, batch: Batch, slot: int, index: int, rng: np.random.Generator | None) -> None:
        spec, record = self._spec, self._source[index]
        if len(record.labels) > self._source.max_labels:
            raise RecordError(
                f"{record.where} has {len(record.labels)} labels, not {self._source.max_labels} or less"
            )
        batch["mask"][slot], batch["index"][slot] = True, index
        batch["labels"][slot, : len(record.labels)] = record.labels
        batch["label"][slot] = record.labels[0 if rng is None else rng.integers(len(record.labels))]
        # Glance and candidates may share frames, and short videos repeat them.
        frame = functools.cache(record.frame)
        clips = [batch[name][slot] for name in ("frames", "glance") if name in batch]
        chosen = [segment_indices(len(record.frames), len(clip), rng).tolist() for clip in clips]
        cut = spec.cut(frame(chosen[0][0]), rng)
        for clip, numbers in zip(clips, chosen, strict=True):
            for out, number in zip(clip, numbers, strict=True):
                apply_cut(frame(number), cut, out)


@functools.lru_cache(maxsize=4)
def _epoch_seed(seed: int, epoch: int) -> int:
    return int(np.random.SeedSequence((seed, epoch)).generate_state(1)[0])

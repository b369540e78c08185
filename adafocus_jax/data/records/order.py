"""In which order an epoch's records come: a permutation that is computed place by place, never stored.

Shards are permuted, every ``per_window`` of them are a window, and the records of a window are permuted: that puts all
records of the epoch in a line. Where they are local, or fit the cache of remote ones, there is one window, and its
order is that of the epoch.

Where remote records do not fit, the line is cut into ``lanes``, and each lane feeds rows of its own in every batch:
with B rows and L lanes, lane g feeds rows gB/L … (g + 1)B/L − 1. A process makes a contiguous part of every batch, so
processes read different lanes, and with them different shards. Why so:

* Which lane feeds a row depends on the row alone, not on who makes it: batches do not depend on the number of
  processes.
* A lane is as long as the number of places that its rows have in the epoch, which need not begin or end with a batch:
  each record comes exactly once, for any number of records, shards and rows. How many places some rows have up to a
  given one is a closed form, so a place costs the same at any step, and a run resumes anywhere.
* Lanes end inside windows. Odd lanes run backwards, so that the two that share a window read it at the same time, at
  one end of the epoch: one process fetches each shard once, and P processes P − 1 windows more in all.
* A batch mixes records of L windows, from all over the line.
"""

from __future__ import annotations

import bisect
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from grain.experimental import index_shuffle

_MANY = 1000  # records, from which on a place costs less to compute than the reading of a record


class Window(NamedTuple):
    """Shards whose records come together in an epoch."""

    start: int
    """Position of its first record in the epoch's line."""
    shards: list[int]
    """Numbers of the shards, increasing."""
    ends: list[int]
    """Records up to the end of each of them, counted from the window's start."""


class Order:
    """The order of all records in each epoch, by the epoch's number and seed.

    Place p of epoch k is row ``(kN + p) % batch_size`` of a batch, N the number of records: batches run on across the
    end of an epoch.
    """

    def __init__(
        self, lengths: Sequence[int], per_window: int, *, lanes: int = 1, batch_size: int = 1
    ) -> None:
        """Sets up the order.

        Args:
          lengths: the number of records of each shard.
          per_window: shards, 1 or more.
          lanes: a divisor of ``batch_size``; 1: records come in the order of their line, whatever the batches.
          batch_size: rows of a global batch.
        """
        self._lengths, self._per_window = tuple(lengths), per_window
        self._lanes, self._batch_size = lanes, batch_size
        self._rows_per_lane = batch_size // lanes
        self._firsts = (np.cumsum(lengths) - lengths).tolist()
        self._count = sum(self._lengths)
        self.windows = functools.lru_cache(maxsize=4)(self._windows)

    def __reduce__(self) -> tuple[Any, ...]:
        create = functools.partial(Order, lanes=self._lanes, batch_size=self._batch_size)
        return create, (self._lengths, self._per_window)

    def index(self, place: int, seed: int | None, epoch: int = 0, attempt: int = 0) -> int:
        """The record at a place of an epoch, or the ``attempt``-th that may replace it, the next ones of its lane.

        ``seed``: that of the epoch; None: shards and records in their own order.

        >>> order = Order([2, 3, 2], per_window=1, lanes=2, batch_size=4)
        >>> sorted(order.index(place, seed=1, epoch=3) for place in range(7))
        [0, 1, 2, 3, 4, 5, 6]
        """
        lane = (epoch * self._count + place) % self._batch_size // self._rows_per_lane
        position = self._position(lane, epoch, self._rank(lane, epoch, place)) + attempt * (-1) ** lane
        return self._record(position % self._count, seed)

    def window_at(self, position: int, seed: int | None) -> int:
        """The number of the window that a position of the epoch's line lies in."""
        return bisect.bisect_right(self.windows(seed), position, key=lambda window: window.start) - 1

    def shards_ahead(
        self, start: int, end: int, rows: range, seed_of: Callable[[int], int] | None
    ) -> list[int]:
        """The shards to have at hand: of each lane that feeds the rows, those of its window and of the next one.

        Args:
          start: the example that is read next, counted from the beginning of the run; row 0 of a batch.
          end: where the run ends.
          rows: of each batch, those that are read here.
          seed_of: from the number of an epoch to its seed; None: records in their own order.

        Returns:
          Their numbers, those that are needed first in front.
        """
        lanes = range(rows.start // self._rows_per_lane, (rows.stop - 1) // self._rows_per_lane + 1)
        found = [itertools.islice(self._lane_windows(lane, start, end, seed_of), 2) for lane in lanes]
        in_turn = (window for windows in itertools.zip_longest(*found) for window in windows if window)
        return list(dict.fromkeys(shard for window in in_turn for shard in window.shards))

    def _lane_windows(
        self, lane: int, start: int, end: int, seed_of: Callable[[int], int] | None
    ) -> Iterator[Window]:
        """The windows of a lane from an example on, epoch after epoch."""
        epoch, place = divmod(start, self._count)
        while epoch * self._count < end:
            rank, length = self._rank(lane, epoch, place), self._rank(lane, epoch, self._count)
            if rank < length:
                seed = None if seed_of is None else seed_of(epoch)
                now, last = (
                    self.window_at(self._position(lane, epoch, at), seed) for at in (rank, length - 1)
                )
                step = (-1) ** lane
                for number in range(now, last + step, step):
                    yield self.windows(seed)[number]
            epoch, place = epoch + 1, 0

    def _rank(self, lane: int, epoch: int, place: int) -> int:
        """How many of the epoch's places before this one are the lane's."""
        low, high = lane * self._rows_per_lane, (lane + 1) * self._rows_per_lane
        return self._places(high, epoch, place) - self._places(low, epoch, place)

    def _position(self, lane: int, epoch: int, rank: int) -> int:
        """Where in the epoch's line the ``rank``-th record of a lane stands."""
        start, end = (
            self._places(rows * self._rows_per_lane, epoch, self._count) for rows in (lane, lane + 1)
        )
        return end - 1 - rank if lane % 2 else start + rank

    def _places(self, rows: int, epoch: int, before: int) -> int:
        """How many of an epoch's first ``before`` places are in the first ``rows`` rows of batches."""
        first = epoch * self._count % self._batch_size
        (whole, row), (_, missed) = (divmod(at, self._batch_size) for at in (first + before, first))
        return whole * rows + min(row, rows) - min(missed, rows)

    def _record(self, position: int, seed: int | None) -> int:
        """The record at a position of the epoch's line."""
        if seed is None:
            return position
        number = self.window_at(position, seed)
        start, shards, ends = self.windows(seed)[number]
        place = _shuffled(position - start, ends[-1], (seed + number) % 2**32)
        shard = shards[member := bisect.bisect_right(ends, place)]
        return self._firsts[shard] + place - (ends[member] - self._lengths[shard])

    def _windows(self, seed: int | None) -> list[Window]:
        """The windows of an epoch in order; ``seed`` None: shards in their own order."""
        shards = np.arange(len(self._lengths))
        if seed is not None:
            shards = np.random.default_rng(seed).permutation(shards)
        windows, start = [], 0
        for first in range(0, len(shards), self._per_window):
            members = sorted(shards[first : first + self._per_window].tolist())
            ends = np.cumsum([self._lengths[shard] for shard in members]).tolist()
            windows.append(Window(start, members, ends))
            start += ends[-1]
        return windows


def _shuffled(place: int, count: int, seed: int) -> int:
    """Where a permutation of ``count`` places puts one of them."""
    if count < _MANY:  # of few places the cipher meets few: 2.6 ms for one of 16
        return int(_permutation(count, seed)[place])
    # In 4 rounds of a cipher: no list of a million places.
    return index_shuffle(place, count - 1, seed=seed, rounds=4)


@functools.lru_cache(maxsize=256)
def _permutation(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).permutation(count)

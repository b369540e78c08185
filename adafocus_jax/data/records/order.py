"""In which order an epoch's records come: a permutation that is computed place by place, never stored."""

from __future__ import annotations

import bisect
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from grain.experimental import index_shuffle

_MANY = 1000  # records, from which on a place costs less to compute than the reading of a record


class Window(NamedTuple):
    """Shards whose records come together in an epoch."""

    start: int
    """Place of its first record in the epoch."""
    shards: list[int]
    """Numbers of the shards, increasing."""
    ends: list[int]
    """Records up to the end of each of them, counted from the window's start."""


class Order:
    """The order of all records in each epoch, by the epoch's seed.

    Shards are permuted, every ``per_window`` of them are a window, and the records of a window are permuted: all
    records at once where there is one window, and no more shards at a time than a cache holds where there are several.
    """

    def __init__(self, lengths: Sequence[int], per_window: int) -> None:
        """``lengths``: the number of records of each shard. ``per_window``: shards, 1 or more."""
        self._lengths, self._per_window = tuple(lengths), per_window
        self._firsts = (np.cumsum(lengths) - lengths).tolist()
        self.windows = functools.lru_cache(maxsize=4)(self._windows)

    def __reduce__(self) -> tuple[Any, ...]:
        return Order, (self._lengths, self._per_window)

    def index(self, place: int, seed: int) -> int:
        """The record at a place of the epoch.

        >>> order = Order([2, 3, 2], per_window=2)
        >>> sorted(order.index(place, seed=1) for place in range(7))
        [0, 1, 2, 3, 4, 5, 6]
        """
        windows = self.windows(seed)
        number = self.window_at(place, seed)
        start, shards, ends = windows[number]
        place = _shuffled(place - start, ends[-1], (seed + number) % 2**32)
        shard = shards[member := bisect.bisect_right(ends, place)]
        return self._firsts[shard] + place - (ends[member] - self._lengths[shard])

    def window_at(self, place: int, seed: int | None) -> int:
        """The number of the window that a place of the epoch lies in."""
        return bisect.bisect_right(self.windows(seed), place, key=lambda window: window.start) - 1

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


@functools.lru_cache(maxsize=4)
def _permutation(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).permutation(count)

"""Which stage runs next, on which videos: plain Python without JAX, clocks or threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adafocus_jax.errors import UserError


@dataclass
class _Waiting:
    """A video in the queue of a stage."""

    video: Hashable
    since: int
    """Videos that had arrived when it came."""
    row: int
    """The first of its rows that has not run."""
    needed: int
    """Rows from there on that run in any case: those up to the next exit at which it may leave."""


@dataclass(frozen=True)
class Bucket:
    """Rows that run together."""

    stage: str
    rows: tuple[tuple[Any, int], ...]
    """(video, row of the video), those of one video in order."""
    size: int
    """Rows of the compiled program; those beyond ``rows`` are padding."""


class Schedule:
    """Queues of videos in front of the stages, and the order in which they are served.

    A bucket runs when it is full, when nothing else can run, or when ``patience`` videos have arrived since its oldest
    video came; the deepest stage first, so that videos finish before others begin. So waiting is bounded by work, on
    fast and on slow devices: without new videos the device soon has nothing else to run. Where a stage takes a video
    row by row (patch by patch), a bucket holds of each video only what is needed before it may leave. If that fills no
    bucket and nothing else can run, it takes more of the same videos ahead of their decision, 1, 2, 4, …: at most as
    much as has run.
    """

    def __init__(
        self,
        stages: Sequence[str],
        sizes: Mapping[str, Sequence[int]],
        *,
        patience: int,
        exits: Sequence[bool] = (True,),
    ) -> None:
        """Prepares empty queues.

        Args:
          stages: their names, in the order in which a video takes them.
          sizes: rows of the compiled programs of each stage.
          patience: videos, at least 1.
          exits: for each row of the last stage, whether a video may leave after it. The last row always counts as one.

        Raises:
          UserError: a stage without sizes, or sizes below 1.
        """
        for stage in stages:
            if not sizes.get(stage) or min(sizes[stage]) < 1:
                raise UserError(
                    f"buckets[{stage!r}] = {sizes.get(stage)}: give one or more sizes of at least 1"
                )
        self._order = tuple(reversed(stages))
        self._sizes = {stage: sorted(set(sizes[stage])) for stage in stages}
        self._patience, self._arrived = patience, 0
        self._queues: dict[str, deque[_Waiting]] = {stage: deque() for stage in stages}
        self._waiting: set[Hashable] = set()
        self._rows = dict.fromkeys(stages, 1) | {stages[-1]: len(exits)}
        self._needed = [_up_to_exit(exits, row) for row in range(len(exits))]

    def add(self, stage: str, video: Hashable, row: int = 0) -> None:
        """Puts a video into the queue of ``stage``, whose rows from ``row`` on have not run."""
        self._arrived += stage == self._order[-1]
        needed = self._needed[row] if self._rows[stage] > 1 else 1
        self._queues[stage].append(_Waiting(video, self._arrived, row, needed))
        self._waiting.add(video)

    def __contains__(self, video: Hashable) -> bool:
        return video in self._waiting

    def remove(self, video: Hashable) -> None:
        """Takes a video out of every queue, if it is in one."""
        if video in self._waiting:
            for stage, queue in self._queues.items():
                self._queues[stage] = deque(waiting for waiting in queue if waiting.video != video)
            self._waiting.discard(video)

    def next(self, *, idle: bool, room: Mapping[str, int] | None = None) -> Bucket | None:
        """The bucket to run now; its videos leave the queue as far as they are in it.

        Args:
          idle: nothing runs, so that a bucket that is not full is better than none.
          room: the most rows that a stage may take now, where something else limits it.

        Returns:
          None where it is better to wait for what is running or arriving.
        """
        room = room or {}
        ready = {
            stage: min(self._ready(stage), room.get(stage, self._sizes[stage][-1])) for stage in self._order
        }
        last = self._arrived - self._patience
        for stage in self._order:
            if 0 < ready[stage] < self._sizes[stage][-1] and self._queues[stage][0].since <= last:
                return self._take(stage, ready[stage])
        for stage in self._order:
            if ready[stage] >= self._sizes[stage][-1]:
                return self._take(stage, self._sizes[stage][-1])
        if idle:
            for stage in self._order:
                if ready[stage]:
                    return self._take(stage, ready[stage], ahead=True)
        return None

    def _ready(self, stage: str) -> int:
        """Rows that can run without going ahead of a decision, as far as one bucket goes."""
        most, total = self._sizes[stage][-1], 0
        for waiting in self._queues[stage]:
            total += waiting.needed
            if total >= most:
                return most
        return total

    def _take(self, stage: str, ready: int, ahead: bool = False) -> Bucket:
        queue = self._queues[stage]
        first = [queue.popleft() for _ in range(min(len(queue), self._sizes[stage][-1]))]
        limits = [waiting.needed for waiting in first]
        if ahead and self._rows[stage] > 1:
            limits = [max(w.needed, min(w.row + w.needed, self._rows[stage] - w.row)) for w in first]
            ready = sum(limits)
        size = self._fitting(stage, ready)
        counts = _deal([waiting.needed for waiting in first], limits, min(size, ready))
        rows: list[tuple[Hashable, int]] = []
        for waiting, count in zip(first, counts, strict=True):
            rows += [(waiting.video, waiting.row + n) for n in range(count)]
            waiting.row += count
            waiting.needed = max(0, waiting.needed - count)
        self._waiting.difference_update(waiting.video for waiting in first if not waiting.needed)
        queue.extendleft(waiting for waiting in reversed(first) if waiting.needed)
        return Bucket(stage, tuple(rows), size)

    def _fitting(self, stage: str, ready: int) -> int:
        """The largest size that ``ready`` rows fill; else the smallest, padded."""
        sizes = self._sizes[stage]
        return max((size for size in sizes if size <= ready), default=sizes[0])


def _up_to_exit(exits: Sequence[bool], row: int) -> int:
    return next((n for n, leaves in enumerate(exits[row:-1], start=1) if leaves), len(exits) - row)


def _deal(needed: Sequence[int], limits: Sequence[int], size: int) -> list[int]:
    """How many rows of each video go into a bucket: first what is needed, oldest first; then more, evenly."""
    counts, left = [], size
    for number in needed:
        counts.append(min(number, left))
        left -= counts[-1]
    while left and any(count < limit for count, limit in zip(counts, limits, strict=True)):
        for video, limit in enumerate(limits):
            if left and counts[video] < limit:
                counts[video] += 1
                left -= 1
    return counts

"""One device with its queues: buckets are filled, run, and their outcome sorted into who leaves and who stays."""

from __future__ import annotations

import contextlib
import time
import zlib
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from adafocus_jax.engine.backend import Backend, Fetch
from adafocus_jax.engine.exits import ExitRule
from adafocus_jax.engine.requests import Request
from adafocus_jax.engine.schedule import Bucket, Schedule
from adafocus_jax.engine.stats import EngineStats
from adafocus_jax.errors import UserError
from adafocus_jax.flops import StageCost

RUNNING = 2
"""Buckets under way on a device: while one runs, the host fills the next."""


def _no_logits() -> np.ndarray:
    return np.empty((0, 0), np.float32)


@dataclass(eq=False)
class Video:
    """A video in flight."""

    request: Request
    admitted: float
    lane: Lane | None = None
    slots: dict[str, int] = field(default_factory=dict)
    frames: np.ndarray | None = None
    """For the stage that it waits for."""
    chosen: dict[str, np.ndarray] = field(default_factory=dict)
    """Outputs of the stage ``choose``."""
    glance_logits: np.ndarray = field(default_factory=_no_logits)
    """``[E, K]``: of the exits along the glance."""
    logits: np.ndarray = field(default_factory=_no_logits)
    """``[1 + rows, K]``: of the exits where it may leave, the last of the glance first; filled up to row ``done``."""
    started: int = 0
    """Rows of the stage ``look`` that were started."""
    done: int = 0
    """Rows of the stage ``look`` whose logits are here."""
    exit: int | None = None
    """The row of ``logits`` with which it left; None while it stays."""
    error: Exception | None = None

    @property
    def stays(self) -> bool:
        """It has neither left nor failed."""
        return self.exit is None and self.error is None


@dataclass
class Running:
    """A bucket under way."""

    bucket: Bucket
    since: float
    fetch: Fetch


class Lane:
    """The videos on one device."""

    def __init__(
        self,
        backend: Backend,
        schedule: Schedule,
        costs: Mapping[str, StageCost],
        capacity: Mapping[str, int],
        rule: ExitRule,
        seed: int,
    ) -> None:
        """Begins without videos: all slots of ``capacity`` are free."""
        self.videos = 0
        self.running: deque[Running] = deque()
        self._backend, self._schedule, self._costs = backend, schedule, costs
        self._capacity, self._rule, self._seed = capacity, rule, seed
        self._free = {pool: list(range(count)) for pool, count in capacity.items()}

    def receive(self, video: Video, stage: str, frames: np.ndarray) -> None:
        """Pixels are here: the video waits for ``stage``."""
        if video.lane is None:
            video.lane = self
            self.videos += 1
        video.frames = frames
        self._schedule.add(stage, video)

    def start(self, stats: EngineStats) -> bool:
        """Starts the bucket that is due, if any."""
        if len(self.running) >= RUNNING:
            return False
        room = {"glance": min(map(len, self._free.values()))} if self._free else {}
        bucket = self._schedule.next(idle=not self.running, room=room)
        if bucket is None:
            return False
        if bucket.stage == "glance":
            for video, _ in bucket.rows:
                video.slots = {pool: free.pop() for pool, free in self._free.items()}
        fetch = self._backend.launch(bucket.stage, bucket.size, self._inputs(bucket), self._slots(bucket))
        self.running.append(Running(bucket, time.perf_counter(), fetch))
        for video, row in bucket.rows:
            video.started = row + 1 if bucket.stage == "look" else 0
            # The device works in order: what is started later may overwrite the slot.
            if bucket.stage in video.slots and bucket.stage != "look":
                self._free[bucket.stage].append(video.slots.pop(bucket.stage))
        stage = stats.stages[bucket.stage]
        stage.rows += len(bucket.rows)
        stage.padding += bucket.size - len(bucket.rows)
        stage.buckets[bucket.size] = stage.buckets.get(bucket.size, 0) + 1
        return True

    def _slots(self, bucket: Bucket) -> dict[str, np.ndarray]:
        slots = {}
        for pool, count in self._capacity.items():
            taken = [video.slots.get(pool, count) for video, _ in bucket.rows]
            slots[pool] = np.array(taken + [count] * (bucket.size - len(taken)), np.int32)
        return slots

    def _inputs(self, bucket: Bucket) -> dict[str, np.ndarray]:
        inputs = {}
        for name, shape in self._costs[bucket.stage].stage.inputs.items():
            values = [self._input(name, video, row, shape.shape) for video, row in bucket.rows]
            if len(values) == bucket.size == 1:
                inputs[name] = np.asarray(values[0], shape.dtype)[None]
                continue
            inputs[name] = array = np.empty((bucket.size, *shape.shape), shape.dtype)
            for place, value in enumerate(values):
                array[place] = value
            array[len(values) :] = self._capacity["look"] if name == "slot" else 0
        return inputs

    def _input(self, name: str, video: Video, row: int, shape: tuple[int, ...]) -> np.ndarray | int:
        if name == "slot":
            return video.slots["look"]
        if name == "depth":
            return row
        if name == "draw":  # of the key, so that neither order nor neighbours matter
            return zlib.crc32(f"{self._seed}:{video.request.key!r}".encode())
        if name == "boxes":
            return video.chosen["boxes"][row * shape[0] : (row + 1) * shape[0]]
        assert video.frames is not None
        return video.frames[row * shape[0] : (row + 1) * shape[0]]

    def collect(self, stats: EngineStats) -> tuple[list[Video], list[Video]]:
        """Waits for the oldest bucket; the videos that are done by it, and those that now need the chosen frames."""
        running = self.running.popleft()
        outputs = running.fetch()
        rows = running.bucket.rows
        if running.bucket.stage == "choose":
            for place, (video, _) in enumerate(rows):
                video.chosen = {name: array[place] for name, array in outputs.items()}
            return [], [video for video, _ in rows]
        if running.bucket.stage == "glance":
            return self._after_glance([video for video, _ in rows], outputs["logits"]), []
        return self._after_look(rows, outputs["logits"], stats), []

    def _after_glance(self, videos: list[Video], logits: np.ndarray) -> list[Video]:
        for video, own in zip(videos, logits, strict=False):
            video.glance_logits, video.frames = own, None
            video.logits = np.empty((self._rule.exits, own.shape[-1]), np.float32)
            video.logits[0] = own[-1]
        self._decide(videos, 0)
        for video in videos:
            if video.stays:
                self._schedule.add("choose", video)
        return [video for video in videos if not video.stays]

    def _after_look(
        self, rows: Sequence[tuple[Video, int]], logits: np.ndarray, stats: EngineStats
    ) -> list[Video]:
        by_row: dict[int, list[Video]] = {}
        done_before = {video for video, _ in rows if not video.stays}
        for place, (video, row) in enumerate(rows):
            if video not in done_before:
                video.logits[row + 1] = logits[place, -1]
                by_row.setdefault(row, []).append(video)
        for row in sorted(by_row):
            stats.ahead_rows += sum(not video.stays for video in by_row[row])
            staying = [video for video in by_row[row] if video.stays]
            for video in staying:
                video.done = row + 1
            self._decide(staying, row + 1)
        videos = dict.fromkeys(video for group in by_row.values() for video in group)
        for video in videos:
            if video.stays and video.done == video.started and video not in self._schedule:
                self._schedule.add("look", video, video.done)
        return [video for video in videos if not video.stays]

    def _decide(self, videos: list[Video], exit_: int) -> None:
        """Those that are sure enough at ``exit_`` leave; those whose logits are not finite fail."""
        if not videos:
            return
        history = np.stack([video.logits[: exit_ + 1] for video in videos])
        finite = np.isfinite(history[:, -1]).all(axis=-1)
        leaves = self._rule.leaves(np.where(finite[:, None, None], history, 0))
        for video, good, leaving in zip(videos, finite, leaves, strict=True):
            if not good:
                video.error = UserError(
                    f"the model's logits for {video.request.key!r} are not finite: "
                    "the checkpoint is damaged or diverged"
                )
            elif leaving:
                video.exit = exit_

    def remove(self, video: Video) -> None:
        """A video is done: its slots are free."""
        self._schedule.remove(video)
        for pool, slot in video.slots.items():
            self._free[pool].append(slot)
        video.slots = {}
        self.videos -= 1

    def drain(self) -> None:
        """Waits for what runs, and forgets it."""
        while self.running:
            with contextlib.suppress(Exception):  # what made the engine stop has been raised already
                self.running.popleft().fetch()

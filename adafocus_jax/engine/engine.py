"""The engine: videos in flight, stage by stage, and nothing computed behind the exit that a video takes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import jax
import numpy as np

from adafocus_jax.early_exit import ExitPolicy
from adafocus_jax.engine.backend import Backend, pool_of
from adafocus_jax.engine.backends import make_backends
from adafocus_jax.engine.buckets import Buckets, default_buckets
from adafocus_jax.engine.exits import ExitRule
from adafocus_jax.engine.lane import RUNNING, Lane, Video
from adafocus_jax.engine.pixels import PIXEL_THREADS, Arrival, PixelSource
from adafocus_jax.engine.requests import Request, Result
from adafocus_jax.engine.schedule import Schedule
from adafocus_jax.engine.stats import EngineStats, StageStats
from adafocus_jax.errors import UserError
from adafocus_jax.flops import model_cost, stage_costs
from adafocus_jax.models import VideoModel
from adafocus_jax.watchdog import watched

COMPILE_THREADS = 4
"""Programs that are compiled at once; XLA compiles outside Python's lock."""


class Engine:
    """Runs a model over many videos; each leaves at the first exit that is sure enough, and later stages never see it.

    Predictions do not depend on the order in which videos come, nor on which run together: with one bucket size per
    stage, bit for bit; across sizes within 1e-4, since XLA sums in another order for another shape.

    Example:
      >>> from adafocus_jax.models import create_model, init_variables
      >>> model = create_model("tsm_tiny", num_classes=3, num_candidates=2, image_size=16)
      >>> engine = Engine(model, init_variables(model, jax.random.key(0)), devices=jax.devices()[:1])
      >>> clips = {name: np.full((2, 16, 16, 3), value, np.uint8) for name, value in (("dark", 0), ("bright", 255))}
      >>> results = engine.run(Request(name, frames) for name, frames in clips.items())
      >>> sorted((result.key, result.logits.shape) for result in results)
      [('bright', (1, 3)), ('dark', (1, 3))]
    """

    def __init__(
        self,
        model: VideoModel,
        variables: Any,
        *,
        policy: ExitPolicy | ExitRule | None = None,
        buckets: Buckets | None = None,
        max_in_flight: int = 64,
        pixel_threads: int = PIXEL_THREADS,
        devices: Sequence[jax.Device] | None = None,
        backend: str = "xla",
        precision: str = "float32",
        every_exit: bool = True,
        seed: int = 0,
    ) -> None:
        """Puts the model on the devices.

        Args:
          model: of ``create_model``.
          variables: its ``{"params", "batch_stats"}``.
          policy: where videos leave: by its serving thresholds, or by a rule of the caller's own; None: every video
            takes the last exit.
          buckets: stage (``glance``, ``choose``, ``look``) to the bucket sizes that are compiled; those of
            ``default_buckets`` where a stage is not named. A row of ``look`` is a patch in ``uni_adafocus``, else a
            video.
          max_in_flight: videos between admission and result; bounds memory, and how many videos may arrive on a device
            while a bucket that is not full is passed over by full ones of other stages.
          pixel_threads: threads that call for pixels.
          devices: which; None: all local ones. Videos are spread over them.
          backend: a key of ``BACKENDS``, or ``auto``: OpenVINO on a CPU where it is installed, else XLA.
          precision: ``float32``; or, with OpenVINO, ``bfloat16``: faster on CPUs that have it (AMX, AVX-512), and not
            the same numbers.
          every_exit: whether results hold the logits of every exit that a video passes. False: of those where one may
            leave by ``policy``, which saves reading the other exits' heads: without a policy, all but the last.
          seed: of random controls alone, whose draws depend on it and on a request's key.

        Raises:
          UserError: a policy of another number of exits, or a bad argument.
        """
        self.model = model
        self._exit_macs = model_cost(model).exits
        self._running = self._warm = False
        self._last_alone: frozenset[str] = frozenset()
        """Stages of whose exits the last alone is computed."""
        self._costs = {cost.stage.name: cost for cost in stage_costs(model)}
        self.policy = policy
        if not every_exit:
            self._last_alone = frozenset(["glance"] if self._rule.leaves_between else ["glance", "look"])
        costs = stage_costs(model, self._last_alone)
        self._costs = {cost.stage.name: cost for cost in costs}
        self.devices = tuple(jax.local_devices() if devices is None else devices)
        self.buckets = {**default_buckets(costs, self.devices[0].platform), **(buckets or {})}
        if max_in_flight < 1 or pixel_threads < 1:
            raise UserError(
                f"max_in_flight={max_in_flight}, pixel_threads={pixel_threads}: each must be at least 1"
            )
        self._max_in_flight, self._threads = max_in_flight, pixel_threads
        self._seed = seed
        self._make_schedule()  # checks the buckets

        def capacity(devices: int) -> dict[str, int]:
            return self._slots_per_pool(-(-max_in_flight // devices))

        self._backends = make_backends(backend, precision, self.devices, model, variables, costs, capacity)
        self.devices = self.devices[: len(self._backends)]
        self._capacity = capacity(len(self.devices))
        self.reset_stats()

    @property
    def policy(self) -> ExitPolicy | ExitRule | None:
        """Where videos leave; setting it compiles nothing. Call ``reset_stats`` to count it apart."""
        return self._policy

    @policy.setter
    def policy(self, policy: ExitPolicy | ExitRule | None) -> None:
        if self._running:
            raise UserError("the engine is running: set its policy before or after")
        rule = policy if isinstance(policy, ExitRule) else ExitRule(policy, self.num_exits)
        if rule.exits != self.num_exits:
            raise UserError(f"an exit rule for {rule.exits} exits, the model has {self.num_exits} that count")
        if "look" in self._last_alone and rule.leaves_between:
            raise UserError(
                "every_exit=False without a policy made this engine for the last exit alone: make another"
            )
        self._policy, self._rule = policy, rule

    @property
    def num_exits(self) -> int:
        """Exits at which videos may leave: the end of the glance, and each row of the stage ``look``."""
        return 1 + (self._costs["look"].stage.rows if "look" in self._costs else 0)

    def _make_schedule(self) -> Schedule:
        open_ = [self._rule.open(exit_) for exit_ in range(1, self._rule.exits)]
        patience = -(-self._max_in_flight // len(self.devices))
        return Schedule(tuple(self._costs), self.buckets, patience=patience, exits=open_ or (True,))

    def _slots_per_pool(self, videos: int) -> dict[str, int]:
        """Slots of one device. Those given up at ``choose`` are held by few videos at once, and are large."""
        costs = list(self._costs.values())
        pools = {pool_of(name, costs) for cost in costs for name in cost.stage.reads}
        between = sum(
            (RUNNING + 1) * max(self.buckets[name]) for name in ("glance", "choose") if name in self.buckets
        )
        return {pool: min(videos, between) if pool == "choose" else videos for pool in sorted(pools)}

    @property
    def glance_indices(self) -> np.ndarray | None:
        """``[G]`` int32: the candidates that a request's ``glance`` holds; None: frames of its own, or all of them."""
        return self.model.glance_candidates

    @property
    def _skipped(self) -> int:
        """Exits before the end of the glance, where no video leaves."""
        return len(self._exit_macs) - self._rule.exits

    def reset_stats(self) -> None:
        """Begins to count anew."""
        stages = {name: StageStats(cost.macs, max(self.buckets[name])) for name, cost in self._costs.items()}
        shares = None
        if isinstance(self._policy, ExitPolicy) and self._policy.exit_shares:
            shares = np.concatenate([np.zeros(self._skipped), self._policy.exit_shares])
        self.stats = EngineStats(stages, np.zeros(len(self._exit_macs), np.int64), shares)

    def warm_up(self) -> None:
        """Compiles all programs, and runs each once on padding; afterwards nothing is compiled any more."""
        if self._warm:
            return
        programs = [
            (b, name, size) for b in self._backends for name in self._costs for size in self.buckets[name]
        ]
        with (
            watched(f"the compiler ({len(programs)} programs)"),
            ThreadPoolExecutor(COMPILE_THREADS, thread_name_prefix="adafocus-compile") as pool,
        ):
            for compiled in [pool.submit(backend.compile, name, size) for backend, name, size in programs]:
                compiled.result()
        for backend, name, size in programs:
            backend.launch(name, size, *self._padding(backend, name, size))()
        self._warm = True

    def stage_seconds(self, repeats: int = 3) -> dict[str, tuple[int, float]]:
        """Rows of each stage's largest bucket, and the seconds that one takes on a device, its inputs lying there.

        What the engine would achieve if buckets were always full and the host took no time.
        """
        self.warm_up()
        found = {}
        for name in self._costs:
            size = max(self.buckets[name])
            launch = partial(
                self._backends[0].launch, name, size, *self._padding(self._backends[0], name, size)
            )
            launch()()
            began, ahead = time.perf_counter(), launch()
            for _ in range(repeats - 1):  # one ahead, as in run
                following = launch()
                ahead()
                ahead = following
            ahead()
            found[name] = (size, (time.perf_counter() - began) / repeats)
        return found

    def _padding(self, backend: Backend, stage: str, size: int) -> tuple[Any, dict[str, np.ndarray]]:
        """Inputs and slots of a bucket without a video."""
        shapes = self._costs[stage].stage.inputs
        inputs = backend.put({name: np.zeros((size, *s.shape), s.dtype) for name, s in shapes.items()})
        return inputs, {pool: np.full(size, count, np.int32) for pool, count in self._capacity.items()}

    def run(self, requests: Iterable[Request], *, max_in_flight: int | None = None) -> Iterator[Result]:
        """Predicts videos; results come in the order in which they are ready.

        Args:
          requests: any number; pulled in a thread of the engine's own, at most ``max_in_flight`` ahead of the results.
          max_in_flight: fewer than the engine's own.

        Raises:
          Exception: what the iteration over ``requests`` raised, after all videos admitted before are answered. What a
            request's own callables raise is that video's result.
        """
        if self._running:
            raise UserError("the engine is running already: finish, or close, that iteration first")
        self.warm_up()
        self._running = True
        lanes = [
            Lane(backend, self._make_schedule(), self._costs, self._capacity, self._rule, self._seed)
            for backend in self._backends
        ]
        source = PixelSource(
            requests,
            lambda request: Video(request, time.perf_counter()),
            self._costs["glance"].stage.inputs["frames"].shape,
            max_in_flight=min(max_in_flight or self._max_in_flight, self._max_in_flight),
            threads=self._threads,
        )
        began, began_cpu = time.perf_counter(), time.thread_time()
        try:
            for video in self._finished(lanes, source):
                result = self._result(video)
                source.release()
                self._spent(began, began_cpu)
                yield result
                began, began_cpu = time.perf_counter(), time.thread_time()
            self._spent(began, began_cpu)
            if source.error is not None:
                raise source.error
        finally:
            source.stop()
            for lane in lanes:
                lane.drain()
            self._running = False

    def _spent(self, began: float, began_cpu: float) -> None:
        """Counts the time since."""
        self.stats.wall_sec += time.perf_counter() - began
        self.stats.host_sec += time.thread_time() - began_cpu

    def _finished(self, lanes: list[Lane], source: PixelSource) -> Iterator[Video]:
        """Videos as they leave or fail: receive what has arrived, start what is due, then collect one bucket."""
        while True:
            while (arrival := source.get(0)) is not None:
                yield from self._receive(arrival, lanes)
            started = [lane.start(self.stats) for lane in lanes]
            if any(started):
                continue
            busy = [lane for lane in lanes if lane.running]
            if busy:
                lane = min(busy, key=lambda lane: lane.running[0].since)
                done, staying = lane.collect(self.stats)
                for video in staying:
                    shape = (self.model.num_focus, *self._costs["look"].stage.inputs["frames"].shape[1:])
                    source.ask_focus(video, video.request, video.chosen["indices"], shape)
                yield from done
            elif source.exhausted and not any(lane.videos for lane in lanes):
                return
            else:
                idle_since = time.perf_counter()
                arrival = source.get(None)
                self.stats.pixel_wait_sec += time.perf_counter() - idle_since
                if arrival is not None:
                    yield from self._receive(arrival, lanes)

    def _receive(self, arrival: Arrival, lanes: list[Lane]) -> Iterator[Video]:
        video = arrival.video
        if arrival.frames is None:
            video.error = arrival.error
            yield video
        else:
            lane = video.lane or min(lanes, key=lambda lane: lane.videos)
            lane.receive(video, arrival.stage, arrival.frames)

    def _result(self, video: Video) -> Result:
        """Takes a video that is done out of its lane."""
        if video.lane is not None:
            video.lane.remove(video)
        error = video.error
        if video.request.close is not None:
            try:
                video.request.close()
            except Exception as failure:  # of this video, like those of its other callables
                error = error or failure
        key, seconds = video.request.key, time.perf_counter() - video.admitted
        if error is not None or video.exit is None:
            self.stats.errors += 1
            return Result(key, seconds, error)
        exit_ = self._skipped + video.exit
        self.stats.exits[exit_] += 1
        self.stats.macs += self._exit_macs[exit_]
        return Result(
            key,
            seconds,
            logits=self._logits(video, video.logits[: video.exit + 1]),
            exit=exit_,
            gflops=self._exit_macs[exit_] / 1e9,
            frame_indices=video.chosen.get("indices"),
            boxes=video.chosen.get("boxes"),
            frame_weights=video.chosen.get("weights"),
        )

    def _logits(self, video: Video, own: np.ndarray) -> np.ndarray:
        """Of all exits up to the one taken; ``own``: of those where videos may leave."""
        if not self._last_alone:
            return np.concatenate([video.glance_logits[:-1], own])
        asked = np.array([self._rule.open(exit_) for exit_ in range(len(own))])
        glance = np.full((self._skipped, own.shape[1]), np.nan, np.float32)
        return np.concatenate([glance, np.where(asked[:, None], own, np.float32(np.nan))])

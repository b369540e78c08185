"""Stands in for ``adafocus_jax.engine``, by its interface: runs every exit of every video, in batches."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Hashable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from adafocus_jax.data.batches.sampling import segment_indices
from adafocus_jax.early_exit import ExitPolicy
from adafocus_jax.evaluate.exits import usable_exits
from adafocus_jax.evaluate.predict import make_predict_function, predict_split
from adafocus_jax.flops import model_cost
from adafocus_jax.models import AdaFocus, VideoModel
from adafocus_jax.types import VideoBatch


@dataclass(frozen=True)
class Request:
    key: Hashable
    glance: np.ndarray | Callable[[], np.ndarray]
    focus: np.ndarray | Callable[[np.ndarray], np.ndarray] | None = None
    close: Callable[[], None] | None = None


@dataclass(frozen=True)
class Result:
    key: Any
    error: Exception | None = None
    logits: Any = None
    exit: Any = None
    gflops: Any = None
    frame_indices: Any = None
    boxes: Any = None
    frame_weights: Any = None
    seconds: float = 0.0


class Engine:
    def __init__(
        self,
        model: VideoModel,
        variables: Any,
        *,
        policy: ExitPolicy | None = None,
        max_in_flight: int = 64,
        pixel_threads: int = 4,
    ) -> None:
        self.model, self.policy, self._threads = model, policy, pixel_threads
        self._predict = make_predict_function(model, variables)
        self._exit_gflops = model_cost(model).exit_gflops
        self.glance_indices = None
        if isinstance(model, AdaFocus) and not model.separate_glance:
            self.glance_indices = segment_indices(model.num_candidates, model.num_glance)
        self._batch = 4 * jax.local_device_count()
        self._in_flight = max_in_flight

    def run(self, requests: Iterable[Request]) -> Iterator[Result]:
        waiting: queue.Queue[tuple[Request, Future] | BaseException | None] = queue.Queue()
        pool = ThreadPoolExecutor(self._threads)

        def feed() -> None:
            try:
                for request in requests:
                    waiting.put((request, pool.submit(self._read, request)))
                waiting.put(None)
            except BaseException as error:
                waiting.put(error)

        threading.Thread(target=feed, daemon=True).start()
        try:
            last: Any = False
            while last is False:
                batch = []
                while len(batch) < self._batch and (not batch or not waiting.empty()):
                    item = waiting.get()
                    if not isinstance(item, tuple):
                        last = item
                        break
                    batch.append(item)
                yield from self._answer(batch)
            if last is not None:
                raise last
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _read(self, request: Request) -> tuple[np.ndarray, np.ndarray]:
        glance = request.glance() if callable(request.glance) else request.glance
        if request.focus is None:
            return glance, glance
        whole = np.arange(self.model.num_candidates)
        return glance, request.focus(whole) if callable(request.focus) else request.focus

    def _answer(self, batch: list[tuple[Request, Future]]) -> Iterator[Result]:
        good = []
        for request, future in batch:
            if error := future.exception():
                yield Result(request.key, error=error)
            else:
                good.append((request, *future.result()))
            if request.close:
                request.close()
        if not good:
            return
        pad = [min(i, len(good) - 1) for i in range(self._batch)]
        separate = isinstance(self.model, AdaFocus) and self.model.separate_glance
        found = predict_split(
            self._predict,
            [
                VideoBatch(
                    frames=np.stack([good[i][2] for i in pad]),
                    glance=np.stack([good[i][1] for i in pad]) if separate else None,
                    mask=np.arange(self._batch) < len(good),
                    index=np.zeros(self._batch, np.int32),
                    labels=np.full((self._batch, 1), -1),
                )
            ],
        )
        exits = np.full(len(good), found.exit_logits.shape[1] - 1)
        if self.policy:
            usable = usable_exits(found)
            exits = found.exit_logits.shape[1] - usable.shape[1] + self.policy.assign(usable)
        for row, (request, *_) in enumerate(good):
            left = int(exits[row])
            stayed = left >= found.exit_logits.shape[1] - usable_exits(found).shape[1] + 1
            yield Result(
                request.key,
                None,
                found.exit_logits[row, : left + 1],
                left,
                float(self._exit_gflops[left]),
                found.frame_indices[row] if stayed else None,
                found.boxes[row] if stayed else None,
                found.frame_weights[row] if stayed else None,
            )

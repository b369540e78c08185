"""Requests are pulled, and their pixels asked for, in threads beside the devices."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from adafocus_jax.engine.requests import Request
from adafocus_jax.errors import UserError

PIXEL_THREADS = 4
"""Threads that call for pixels where nothing else is asked for. Decoders release Python's lock."""


@dataclass(frozen=True)
class Arrival:
    """Pixels of one video."""

    video: Any
    stage: str
    frames: np.ndarray | None
    error: Exception | None = None


class PixelSource:
    """Admits requests, at most ``max_in_flight`` ahead of ``release``, and delivers ``Arrival`` s in a queue."""

    def __init__(
        self,
        requests: Iterable[Request],
        admit: Callable[[Request], Any],
        glance_shape: tuple[int, ...],
        *,
        max_in_flight: int,
        threads: int,
    ) -> None:
        """Starts the threads. ``admit`` makes of a request what its arrivals are to name."""
        self._requests, self._admit, self._glance_shape = requests, admit, glance_shape
        self._free = threading.Semaphore(max_in_flight)
        self._arrivals: queue.SimpleQueue[Arrival | None] = queue.SimpleQueue()
        self._stopped = False
        self._lock = threading.Lock()
        self._asked = self._delivered = 0
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="adafocus-pixels")
        self.error: BaseException | None = None
        """What the requests themselves raised."""
        self._ended = False
        self._feeder = threading.Thread(target=self._feed, name="adafocus-requests", daemon=True)
        self._feeder.start()

    def _feed(self) -> None:
        try:
            requests = iter(self._requests)
            while not self._stopped:
                self._free.acquire()  # before the next request is made: it may hold memory
                request = next(requests, None)
                if request is None or self._stopped:
                    break
                video = self._admit(request)
                self._ask(video, "glance", request.glance, (), self._glance_shape, request.key)
        except BaseException as error:  # raised again by the engine, after all admitted videos are answered
            self.error = error
        self._arrivals.put(None)

    def ask_focus(self, video: Any, request: Request, indices: np.ndarray, shape: tuple[int, ...]) -> None:
        """Asks for the chosen frames, ``shape`` = ``[F, H, W, 3]``, of a video that stays."""
        source: Any = request.focus
        if isinstance(source, np.ndarray):
            self._ask(video, "look", lambda: source[indices], (), shape, request.key)
        else:
            self._ask(video, "look", source, (indices,), shape, request.key)

    def _ask(
        self,
        video: Any,
        stage: str,
        source: Any,
        args: tuple[Any, ...],
        shape: tuple[int, ...],
        key: Hashable,
    ) -> None:
        with self._lock:
            self._asked += 1
        if isinstance(source, np.ndarray):
            self._arrivals.put(_arrival(video, stage, lambda: source, (), shape, key))
            return
        try:
            self._pool.submit(lambda: self._arrivals.put(_arrival(video, stage, source, args, shape, key)))
        except RuntimeError:  # the pool is shut down: the caller has left
            self._stopped = True

    def get(self, timeout: float | None) -> Arrival | None:
        """The next arrival; None where none comes in ``timeout`` seconds (None: ever), or the requests have ended."""
        try:
            arrival = self._arrivals.get(timeout != 0, timeout)
        except queue.Empty:
            return None
        self._ended = self._ended or arrival is None
        self._delivered += arrival is not None
        return arrival

    @property
    def exhausted(self) -> bool:
        """Nothing arrives any more unless ``ask_focus`` is called again."""
        return self._ended and self._asked == self._delivered

    def release(self) -> None:
        """A video is done: another may be admitted."""
        self._free.release()

    def stop(self) -> None:
        """Admits no more, and waits for no thread."""
        self._stopped = True
        self._free.release()
        self._pool.shutdown(wait=False, cancel_futures=True)


def _arrival(
    video: Any,
    stage: str,
    source: Callable[..., np.ndarray],
    args: tuple[Any, ...],
    shape: tuple[int, ...],
    key: Hashable,
) -> Arrival:
    try:
        frames = source(*args)
        if not isinstance(frames, np.ndarray) or frames.dtype != np.uint8 or frames.shape != shape:
            found = f"{getattr(frames, 'dtype', type(frames).__name__)} {list(getattr(frames, 'shape', ()))}"
            raise UserError(f"frames of {key!r} for the {stage} stage are {found}: give uint8 {list(shape)}")
    except Exception as error:  # is the result of this one video
        return Arrival(video, stage, None, error)
    return Arrival(video, stage, frames)

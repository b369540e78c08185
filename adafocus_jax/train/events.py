"""TensorBoard event files, written by a background thread that never blocks training."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from adafocus_jax.train.event_file import record, start_event, summary_event, version_event

log = logging.getLogger(__name__)

MOST_WAITING = 1000
"""Length of the queue; where storage cannot keep up with training, the oldest events are dropped."""
RETRY_SEC = 10.0
CLOSE_SEC = 10.0


class EventWriter:
    """Appends summaries to a new event file in ``folder``.

    A write error, such as a full disk, or storage that cannot keep up is reported in one line. Events that cannot be
    written meanwhile are dropped; once writing works again, later events go to another file.
    """

    def __init__(self, folder: str | os.PathLike[str], start_step: int) -> None:
        """Makes TensorBoard discard what an interrupted run wrote about steps after ``start_step``."""
        self._folder, self._start_step = Path(folder), start_step
        self._waiting: deque[bytes] = deque()
        self._changed = threading.Condition()
        self._closing = self._slow = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def add(self, step: int, values: list[bytes]) -> None:
        """Queues one summary, of values of ``event_file``; never blocks on storage."""
        event = summary_event(time.time(), step, values)
        with self._changed:
            if len(self._waiting) >= MOST_WAITING:
                self._waiting.popleft()
                if not self._slow:
                    log.warning(
                        "TensorBoard's files in %s are written too slowly: some events are dropped",
                        self._folder,
                    )
                self._slow = True
            self._waiting.append(event)
            self._changed.notify()

    def close(self) -> None:
        """Writes the queued events, for at most ``CLOSE_SEC`` seconds."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(CLOSE_SEC)
        if self._thread.is_alive():
            log.warning("TensorBoard's files in %s are incomplete: storage does not respond", self._folder)

    def _run(self) -> None:
        file: BinaryIO | None = None
        failed_at: float | None = None
        while events := self._take():
            if failed_at is not None and time.monotonic() - failed_at < RETRY_SEC and not self._closing:
                continue
            try:
                if file is None:
                    now = time.time()
                    file = self._open(now)
                    events = [version_event(now), start_event(now, self._start_step + 1), *events]
                for event in events:
                    file.write(record(event))
                file.flush()
                if failed_at is not None:
                    log.info("TensorBoard's files in %s are written again", self._folder)
                failed_at = None
            except OSError as error:
                if failed_at is None:
                    log.warning(
                        "TensorBoard's files in %s cannot be written, training continues: %s",
                        self._folder,
                        error,
                    )
                _close(file)
                failed_at, file = time.monotonic(), None
        _close(file)

    def _take(self) -> list[bytes]:
        """The queued events, as soon as there are any; empty at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing)
            events = list(self._waiting)
            self._waiting.clear()
            return events

    def _open(self, now: float) -> BinaryIO:
        self._folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{now:.0f}.{socket.gethostname()}.{os.getpid()}.{time.time_ns()}"
        return open(self._folder / name, "xb")


def _close(file: BinaryIO | None) -> None:
    if file is not None:
        with suppress(OSError):
            file.close()

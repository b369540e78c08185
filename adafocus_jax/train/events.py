"""TensorBoard event files, written by a background thread that never blocks training."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def _without(module: str) -> Iterator[None]:
    """In the block, a module that is not loaded yet is not to be found."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[module]


# tensorboardX imports PyTorch where it is installed: seconds at every start, for nothing that is used here.
with _without("torch"):
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto.event_pb2 import Event, SessionLog
    from tensorboardX.proto.summary_pb2 import Summary

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
        self._waiting: deque[Event] = deque()
        self._changed = threading.Condition()
        self._closing = self._slow = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def add(self, step: int, values: list[Summary.Value]) -> None:
        """Queues one summary; never blocks on storage."""
        event = Event(step=step, wall_time=time.time(), summary=Summary(value=values))
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
        writer: EventsWriter | None = None
        failed_at: float | None = None
        while events := self._take():
            if failed_at is not None and time.monotonic() - failed_at < RETRY_SEC and not self._closing:
                continue
            try:
                writer = writer or self._open()
                for event in events:
                    writer.write_event(event)
                writer.flush()
                if failed_at is not None:
                    log.info("TensorBoard's files in %s are written again", self._folder)
                failed_at = None
            except (OSError, ValueError) as error:  # ValueError: a file that was closed after it failed
                if failed_at is None:
                    log.warning(
                        "TensorBoard's files in %s cannot be written, training continues: %s",
                        self._folder,
                        error,
                    )
                _close(writer)
                failed_at, writer = time.monotonic(), None
        _close(writer)

    def _take(self) -> list[Event]:
        """The queued events, as soon as there are any; empty at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing)
            events = list(self._waiting)
            self._waiting.clear()
            return events

    def _open(self) -> EventsWriter:
        self._folder.mkdir(parents=True, exist_ok=True)
        writer = EventsWriter(str(self._folder / "events"), f".{os.getpid()}.{time.time_ns()}")
        writer.write_event(Event(step=self._start_step + 1, session_log=SessionLog(status=SessionLog.START)))
        return writer


def _close(writer: EventsWriter | None) -> None:
    if writer is not None:
        with suppress(OSError, ValueError):
            writer.close()

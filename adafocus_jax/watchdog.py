"""Logs what a process is waiting for when that takes unusually long: a silent process looks like a dead one."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)

NOTICE_SEC = 60.0
"""Time to the first notice; each later one takes twice as long as the one before."""


class Watchdog:
    """Within a ``with`` block, a thread that watches what another one, such as that of training, is waiting for."""

    def __init__(self, notice_sec: float = NOTICE_SEC) -> None:
        self._notice_sec = notice_sec
        self._wait: tuple[str, float] | None = None
        self._ended = threading.Event()

    @contextmanager
    def waiting_for(self, what: str) -> Iterator[None]:
        """The block waits for ``what``."""
        self.expect(what)
        try:
            yield
        finally:
            self._wait = None

    def expect(self, what: str | None) -> None:
        """From now on, until the next call or the end of ``waiting_for``, ``what`` is waited for (None: nothing)."""
        self._wait = (what, time.monotonic()) if what else None

    def __enter__(self) -> Watchdog:
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()

    def _watch(self) -> None:
        seen, after = None, self._notice_sec
        while not self._ended.wait(self._notice_sec / 10):
            wait = self._wait
            if wait is not seen:
                seen, after = wait, self._notice_sec
            if wait is not None and time.monotonic() - wait[1] > after:
                log.warning("still waiting for %s after %.0f s", wait[0], time.monotonic() - wait[1])
                after *= 2


@contextmanager
def watched(what: str, notice_sec: float = NOTICE_SEC) -> Iterator[None]:
    """The block waits for ``what``; where that takes longer than ``notice_sec`` seconds, lines say so."""
    with Watchdog(notice_sec) as watchdog, watchdog.waiting_for(what):
        yield

"""Says what a run waits for when that takes unusually long: a silent run looks like one that has died."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)

NOTICE_SEC = 60.0
"""The first notice comes after so long, and each further one after twice the time of the one before."""


class Watchdog:
    """A thread that looks at what the one that trains waits for; for the length of a ``with`` block."""

    def __init__(self, notice_sec: float = NOTICE_SEC) -> None:
        self._notice_sec = notice_sec
        self._wait: tuple[str, float] | None = None
        self._ended = threading.Event()

    @contextmanager
    def waiting_for(self, what: str) -> Iterator[None]:
        """The block waits for ``what``."""
        self._wait = (what, time.monotonic())
        try:
            yield
        finally:
            self._wait = None

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
                log.warning("waiting for %s since %.0f s", wait[0], time.monotonic() - wait[1])
                after *= 2

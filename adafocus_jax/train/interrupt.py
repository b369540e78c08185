"""SIGTERM and SIGINT ask training to stop at the next step, so that it can save first."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class StopRequestedError(Exception):
    """A signal came while something long was under way that need not be finished."""


class StopSignals:
    """While its ``with`` block runs, the first SIGTERM or SIGINT sets ``signal``; a second one interrupts at once.

    Python lets only the main thread handle signals; elsewhere nothing is changed.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        """The number of the signal that came."""
        self._interruptible = False
        self._previous: dict[int, signal._HANDLER] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """A block that a signal ends at once, quietly. ``signal`` tells whether it did."""
        self._interruptible = True
        try:
            with contextlib.suppress(StopRequestedError):
                yield
        finally:
            self._interruptible = False

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = number
        if self._interruptible:
            raise StopRequestedError

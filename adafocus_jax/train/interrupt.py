"""SIGTERM and SIGINT ask training to stop at the next step, so that it can save first; all processes at the same."""

from __future__ import annotations

import signal
import threading
from contextlib import ExitStack
from types import FrameType

import jax

from adafocus_jax.signals import NUMBERS, deferred
from adafocus_jax.train.processes import largest_over_processes


class StopRequestedError(Exception):
    """A signal came while something long is under way that need not be finished."""


class StopSignals:
    """From ``listen`` to the end of the ``with`` block, the first SIGTERM or SIGINT sets ``signal``.

    A second one interrupts at once. Python lets only the main thread handle signals; elsewhere nothing is changed.
    """

    def __init__(self) -> None:
        self._received: int | None = None
        self._agreed: int | None = None
        self._share = largest_over_processes() if jax.process_count() > 1 else None
        self._shared: jax.Array | None = None
        self._restore = ExitStack()

    def listen(self) -> None:
        """Starts handling signals: from now on there is something to save."""
        if threading.current_thread() is threading.main_thread():
            self._restore.enter_context(deferred())
            for number in NUMBERS:
                previous = signal.signal(number, self._handle)
                self._restore.callback(signal.signal, number, previous)

    def __enter__(self) -> StopSignals:
        return self

    def __exit__(self, *_: object) -> None:
        self._restore.close()

    @property
    def signal(self) -> int | None:
        """The number of the signal that came; with several processes, to any of them, the same at a step in all."""
        return self._received if self._share is None else self._agreed

    def share(self) -> None:
        """Once a step: sends this process's signal and reads what the others sent a step ago, so that nobody waits."""
        if self._share is not None:
            before, self._shared = self._shared, self._share(self._received or 0)
            self._agreed = None if before is None else int(before.addressable_data(0)) or None

    def check(self) -> None:
        """As ``share``, between the parts of what need not be finished; raises StopRequestedError if a signal came."""
        self.share()
        if self.signal is not None:
            raise StopRequestedError

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self._received is not None:
            raise KeyboardInterrupt
        self._received = number

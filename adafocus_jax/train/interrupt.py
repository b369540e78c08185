"""SIGTERM, SIGINT and bad data stop training at the next step, so that it can save first; all processes at the same."""

from __future__ import annotations

import signal
import threading
from contextlib import ExitStack
from types import FrameType

import jax

from adafocus_jax.signals import NUMBERS, deferred
from adafocus_jax.train.processes import largest_over_processes

_DATA_FAILED = 1000
"""Sent in place of a signal; larger than any."""


class StopRequestedError(Exception):
    """A signal came while something long is under way that need not be finished."""


class StopSignals:
    """From ``listen`` to the end of the ``with`` block, the first SIGTERM or SIGINT sets ``signal``.

    A second one interrupts at once. Python lets only the main thread handle signals; elsewhere nothing is changed.
    """

    def __init__(self) -> None:
        self._received: int | None = None
        self._agreed: int | None = None
        self._data_failed = False
        self._share = largest_over_processes() if jax.process_count() > 1 else None
        self._shared: jax.Array | None = None
        self._restore = ExitStack()

    def listen(self) -> None:
        """Starts handling signals: from now on there is something to save."""
        if threading.current_thread() is threading.main_thread():
            for number in NUMBERS:
                previous = signal.signal(number, self._handle)
                self._restore.callback(signal.signal, number, previous)
            self._restore.enter_context(deferred())

    def __enter__(self) -> StopSignals:
        return self

    def __exit__(self, *_: object) -> None:
        self._restore.close()

    @property
    def signal(self) -> int | None:
        """The number of the signal that came; with several processes, to any of them, the same at a step in all."""
        number = self._received if self._share is None else self._agreed
        return None if number == _DATA_FAILED else number

    @property
    def data_failed(self) -> bool:
        """Whether the next batch cannot be had, in this process or another; the same at a step in all."""
        return self._data_failed if self._share is None else self._agreed == _DATA_FAILED

    def send(self, *, data_failed: bool = False) -> None:
        """Before a step: tells the other processes of a signal, or that this one cannot have the batch after it."""
        self._data_failed = data_failed
        if self._share is not None:
            self._shared = self._share(_DATA_FAILED if data_failed else self._received or 0)

    def receive(self) -> None:
        """Reads what all have sent, which is there as soon as the devices come to that step."""
        if self._shared is not None:
            self._agreed = int(self._shared.addressable_data(0)) or None
            self._shared = None

    def check(self) -> None:
        """Sends, and receives what was sent before, between the parts of what need not be finished.

        Raises:
          StopRequestedError: a signal came.
        """
        self.receive()
        self.send()
        if self.signal is not None:
            raise StopRequestedError

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self._received is not None:
            raise KeyboardInterrupt
        self._received = number

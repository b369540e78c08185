"""SIGTERM and SIGINT end a command within seconds, also while a compiler or another library holds the main thread."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

NUMBERS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def ending_on_signals(name: str) -> Iterator[None]:
    """In the block the first SIGTERM or SIGINT ends this process with status 128 + its number, unless ``deferred``.

    Python runs signal handlers in the main thread and between two bytecodes, which is minutes late while XLA compiles;
    so a separate thread is notified. Outside the main thread, where Python handles no signals, this does nothing.

    Args:
      name: of the command, for the line on standard error that says so.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received, sent = os.pipe()
    os.set_blocking(sent, False)
    previous = {number: signal.signal(number, _ignore) for number in NUMBERS}
    before = signal.set_wakeup_fd(sent, warn_on_full_buffer=False)
    threading.Thread(target=_end, args=(name, received), daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        for number, handler in previous.items():
            signal.signal(number, handler)
        os.close(sent)


@contextmanager
def collected_signals() -> Iterator[list[int]]:
    """Yields the list of the SIGINT and SIGTERM that have arrived in the block; a second one acts as if this were not.

    For loops that look at the list between two steps, and end in good order.
    """
    received: list[int] = []

    def note(number: int, frame: object) -> None:
        received.append(number)
        signal.signal(number, signal.SIG_DFL)

    before = {number: signal.signal(number, note) for number in NUMBERS}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def deferred() -> Iterator[None]:
    """In the block, in the main thread, signals are left to handlers that were installed just before.

    The thread of ``ending_on_signals`` is not told of them, so that it cannot act on one later, past the block.
    """
    notified = signal.set_wakeup_fd(-1)
    try:
        yield
    finally:
        signal.set_wakeup_fd(notified, warn_on_full_buffer=False)


def _ignore(number: int, frame: object) -> None:
    """A handler in Python has to exist; the thread does the work."""


def _end(name: str, received: int) -> None:
    while numbers := os.read(received, 1):
        if numbers[0] in NUMBERS:
            print(f"{name}: ended by {signal.Signals(numbers[0]).name}", file=sys.stderr, flush=True)
            os._exit(128 + numbers[0])
    os.close(received)

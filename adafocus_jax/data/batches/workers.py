"""Batches made in worker processes: how these start, what a user is told when they end, and what they leave behind."""

from __future__ import annotations

import atexit
import collections
import contextlib
import ctypes
import gc
import re
import signal
import time
import weakref
from collections.abc import Generator, Iterator
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

import grain

from adafocus_jax.data.media.worker_process import MAIN_GUARD, refuse_unguarded_main, start_worker
from adafocus_jax.errors import UserError

_SHARED = Path("/dev/shm")
_ARRAYS = 512  # that are remembered: more than anybody holds on to, times the arrays of a batch
_UNLINK_SEC = 2.0


def iterate_in_workers(dataset: grain.IterDataset, num_workers: int) -> Iterator[Any]:
    """The elements of ``dataset``, made by ``num_workers`` spawned processes, in order.

    Raises:
      UserError: a worker was killed, or could not start.
    """
    refuse_unguarded_main()
    _open.add(elements := _iterate(dataset, num_workers))
    return elements


def _iterate(dataset: grain.IterDataset, num_workers: int) -> Generator[Any, None, None]:
    options = grain.MultiprocessingOptions(num_workers, per_worker_buffer_size=1)
    iterator = iter(dataset.mp_prefetch(options, start_worker))
    try:
        _start(iterator)
        for element in iterator:
            _remember(element)
            yield element
            del element
    except RuntimeError as error:
        if (code := re.search(r"terminated unexpectedly with exit code (-?\d+)", str(error))) is None:
            raise
        raise UserError(_cause(int(code[1]))) from error
    finally:
        iterator.close()
        # The iterator's cycles keep the last batches in shared memory, which Python reports as leaked at exit.
        del iterator
        gc.collect()


def _start(iterator: grain.DatasetIterator) -> None:
    """Starts the processes with SIGINT blocked, until ``start_worker`` ignores it: Ctrl-C reaches them, too."""
    iterator.get_state()  # makes what is to be started
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        iterator.start_prefetch()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _cause(code: int) -> str:
    if code < 0:
        return (
            f"a data worker was killed by {signal.Signals(-code).name}, perhaps for want of memory (SIGKILL) or of "
            "room in /dev/shm (SIGBUS): start again, with smaller batches or fewer workers or threads"
        )
    return f"a data worker ended with status {code} as it started; its message is above. {MAIN_GUARD}"


_open: weakref.WeakSet[Generator[Any, None, None]] = weakref.WeakSet()
_recent: collections.deque[tuple[weakref.ref[Any], str]] = collections.deque(maxlen=_ARRAYS)


def _remember(element: dict[str, Any]) -> None:
    """Notes the shared memory of a batch, which is freed with its arrays: never, where they live until the exit."""
    for array in element.values():
        if (memory := getattr(array, "shm", None)) is not None:
            _recent.append((weakref.ref(array), memory.name))


@atexit.register
def _clean_up() -> None:
    """Ends the workers at exit, and frees what arrays still hold, as after an error or in a script's globals."""
    for elements in list(_open):
        with contextlib.suppress(ValueError):  # one that is running
            elements.close()
    gc.collect()
    end = time.monotonic() + _UNLINK_SEC
    for reference, name in _recent:
        if (array := reference()) is not None:
            # What is deleted from now on finds no modules to free itself with: let it live to the end of the process.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(array))
            del array
        else:  # It is in the hands of grain's thread.
            while (_SHARED / name).exists() and time.monotonic() < end:
                time.sleep(0.01)
        with contextlib.suppress(FileNotFoundError):
            memory = SharedMemory(name)
            memory.close()
            memory.unlink()
    _recent.clear()

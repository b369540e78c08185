"""What every worker process of this package does first."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading

import cv2

from adafocus_jax.allocator import keep_freed_memory
from adafocus_jax.plugins import import_inherited_plugins

MAIN_GUARD = 'A script that starts workers needs if __name__ == "__main__": around what it does'
"""Worker processes are spawned: they import the script of their parent before they begin."""


def refuse_unguarded_main() -> None:
    """Ends a worker process that, instead of its work, runs the script of its parent, in one line."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise SystemExit(f"a worker process has run the whole script again. {MAIN_GUARD}.")


def start_worker(*_: object) -> None:
    """Makes a spawned process a well-behaved worker: one OpenCV thread, no Ctrl-C, no life without its parent.

    It then imports the plugins of its parent.
    """
    keep_freed_memory()
    cv2.setNumThreads(1)  # Parallelism is over videos.
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent handles it.
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    import_inherited_plugins()


def _exit_with_parent() -> None:
    # A worker whose parent was killed would wait for it forever.
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)

"""Runs commands in forks of one process that has imported everything: a start takes a moment instead of seconds.

Reads a request per line, ``{"words": […], "env": {…}, "errors": FILE, "sec": BOUND}``; answers with
``{"status": …, "read": …, "write": …}``: the status of the process (-9: it was killed at its bound), and how many calls
of both kinds the shim has counted in it. ``words`` are those of ``adafocus``, or ``toy`` and those of ``toy.py``.
"""

import ctypes
import gc
import importlib
import json
import logging
import os
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "train"))

import toy

from adafocus_jax.cli.exit_status import status_of
from adafocus_jax.cli.main import main


def work(words: list[str]) -> int:
    """Runs a command as its own process would."""
    if words[0] == "toy":
        logging.basicConfig(level=logging.INFO, format="%(message)s", force=True)
        logging.getLogger("absl").setLevel(logging.WARNING)
        return status_of("toy", lambda: toy.script(*words[1:]))
    return main(words)


def start(request: dict) -> int | None:
    """Forks: in the parent the number of the new process; in that one, which is to run the words, None."""
    if child := os.fork():
        return child
    with open(request["errors"], "wb") as errors:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(errors.fileno(), 1)
        os.dup2(errors.fileno(), 2)
    os.environ.update(request["env"])
    return None


def wait(child: int, sec: float) -> int:
    """The status of a process, which is killed after ``sec`` seconds."""
    end = time.monotonic() + sec
    while time.monotonic() < end:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    for command in ("evaluate", "predict", "prepare"):
        importlib.import_module(f"adafocus_jax.cli.{command}")
    gc.freeze()  # else a fork would copy, at its end, all that it frees
    print("ready", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        counted, counts = os.pipe()
        if (child := start(request)) is None:
            status = work(request["words"])
            shim = ctypes.CDLL(None)
            found = {kind: ctypes.c_int.in_dll(shim, f"fault_{kind}s").value for kind in ("read", "write")}
            os.write(counts, json.dumps(found).encode())
            sys.exit(status)
        os.close(counts)
        status = wait(child, request["sec"])
        with open(counted, "rb") as file:
            calls = json.loads(file.read() or "{}")
        print(json.dumps({"status": status, **calls}), flush=True)

"""Runs commands without a start of Python for each: ``server.py fork``, every one in a fork of this process, which has
imported all; ``server.py stay``, in this process, which has then traced the model already.

Reads a request per line, ``{"words": […], "env": {…}, "errors": FILE}``; answers with ``{"status": …, "read": …,
"write": …}``: the status of the command, and how many calls of both kinds the shim has counted in it. ``words`` are
those of ``adafocus``, or ``toy`` and those of ``toy.py``.
"""

import ctypes
import gc
import importlib
import json
import logging
import os
import sys
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


def begin(request: dict) -> None:
    """Has the shim count anew, and what is printed go to the file of errors."""
    with open(request["errors"], "wb") as errors:
        os.dup2(errors.fileno(), 1)
        os.dup2(errors.fileno(), 2)
    os.environ.update(request["env"])
    for count in counts().values():
        count.value = 0


def counts() -> dict[str, ctypes.c_int]:
    """The shim's, of the calls so far."""
    shim = ctypes.CDLL(None)
    return {kind: ctypes.c_int.in_dll(shim, f"fault_{kind}s") for kind in ("read", "write")}


def counted() -> dict[str, int]:
    """The calls so far."""
    return {kind: count.value for kind, count in counts().items()}


if __name__ == "__main__":
    with os.fdopen(os.dup(1), "w") as answers:
        for command in ("evaluate", "predict", "prepare"):
            importlib.import_module(f"adafocus_jax.cli.{command}")
        gc.freeze()  # else a fork would copy, at its end, all that it frees
        print("ready", file=answers, flush=True)
        for line in sys.stdin:
            request = json.loads(line)
            if sys.argv[1] == "stay":
                begin(request)
                answer = {"status": work(request["words"]), **counted()}
            else:
                calls, reports = os.pipe()
                if not (child := os.fork()):
                    begin(request)
                    status = work(request["words"])
                    os.write(reports, json.dumps(counted()).encode())
                    sys.exit(status)
                os.close(reports)
                status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
                with open(calls, "rb") as file:
                    answer = {"status": status, **json.loads(file.read() or "{}")}
            print(json.dumps(answer), file=answers, flush=True)

"""Signals while a command starts: the main thread sits in a library, and there is nothing to save yet."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from adafocus_jax.watchdog import Watchdog

# What XLA does while it compiles, as Python sees it: a call that lets other threads run, and no signal ends. Here a
# mutex is locked twice.
BUSY = """
import ctypes, sys
from adafocus_jax.signals import ending_on_signals
with ending_on_signals("toy"):
    if len(sys.argv) > 1:
        from adafocus_jax.train.processes import connect
        connect(sys.argv[1], 2, int(sys.argv[2]))
    print("busy", flush=True)
    libc, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(256)
    libc.pthread_mutex_init(mutex, None)
    libc.pthread_mutex_lock(mutex)
    libc.pthread_mutex_lock(mutex)
"""


def start(*words):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", BUSY, *words]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_during_compilation_ends_the_process_at_once(number):
    with start() as process:
        assert process.stdout.readline() == "busy\n"
        began = time.monotonic()
        process.send_signal(number)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert time.monotonic() - began < 10
    assert errors.strip().splitlines() == [f"toy: ended by {number.name}"]


def test_so_it_does_in_all_of_several_processes():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        coordinator = f"localhost:{free.getsockname()[1]}"
    processes = [start(coordinator, str(number)) for number in range(2)]
    try:
        assert [process.stdout.readline() for process in processes] == ["busy\n"] * 2
        for process in reversed(processes):
            process.send_signal(signal.SIGTERM)
        errors = [process.communicate(timeout=30)[1] for process in processes]
        assert [process.returncode for process in processes] == [143, 143], errors
    finally:
        for process in processes:
            process.kill()
            process.wait()


LATE = """
import os, signal, threading, time
from adafocus_jax import signals
go, end = threading.Event(), signals._end
signals._end = lambda *words: go.wait() and end(*words)  # a thread that gets no time until the block was left
with signals.ending_on_signals("toy"):
    before = signal.signal(signal.SIGTERM, lambda *_: print("noted", flush=True))
    with signals.deferred():
        os.kill(os.getpid(), signal.SIGTERM)
    go.set()
    time.sleep(0.2)
    print("goes on", flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(30)
"""


def test_a_signal_that_was_deferred_does_not_end_the_process_later():
    done = subprocess.run([sys.executable, "-c", LATE], capture_output=True, text=True, timeout=60)
    assert done.stdout.split("\n")[:2] == ["noted", "goes on"]
    assert (done.returncode, done.stderr.strip()) == (143, "toy: ended by SIGTERM")


def test_a_long_wait_is_told(caplog):
    with Watchdog(notice_sec=0.02) as watchdog:
        with watchdog.waiting_for("the next batch of videos"):
            deadline = time.monotonic() + 20
            while len(caplog.messages) < 2 and time.monotonic() < deadline:
                time.sleep(0.01)
        told = len(caplog.messages)
        time.sleep(0.1)
        assert len(caplog.messages) == told >= 2
    assert all(
        message.startswith("still waiting for the next batch of videos after") for message in caplog.messages
    )

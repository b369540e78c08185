import json
import os
import subprocess
import sys
import time

import pytest

from adafocus_jax.errors import UserError
from adafocus_jax.train import lock
from adafocus_jax.train.lock import LOCK_FILE, STALE_SEC, WorkdirLock

HOLD = """
import sys
from adafocus_jax.train.lock import WorkdirLock
with WorkdirLock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def other(tmp_path):
    """Another process that holds the lock of ``tmp_path``."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_another_process_is_refused_by_name_until_it_ends(other, tmp_path):
    with pytest.raises(
        UserError, match=rf"is in use by process {other.pid} on .*, last seen \d+ s ago: stop that run first"
    ):
        WorkdirLock(tmp_path)
    other.communicate("")
    assert not list(tmp_path.iterdir())
    with WorkdirLock(tmp_path):
        assert json.loads((tmp_path / LOCK_FILE).read_text())["pid"] == os.getpid()
    assert not list(tmp_path.iterdir())


def test_a_killed_process_leaves_no_lock_that_counts(other, tmp_path, caplog):
    other.kill()
    other.wait()
    with WorkdirLock(tmp_path):
        assert f"process {other.pid} on" in caplog.text
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("age_sec", "refused"), [(0.5 * STALE_SEC, True), (1.5 * STALE_SEC, False)])
def test_a_process_of_another_machine_is_taken_for_dead_by_its_heartbeat(tmp_path, age_sec, refused):
    file = tmp_path / LOCK_FILE
    file.write_text(json.dumps({"host": "elsewhere", "pid": 1}))
    os.utime(file, (time.time() - age_sec,) * 2)
    if refused:
        with pytest.raises(UserError, match="in use by process 1 on elsewhere, last seen 30 s ago"):
            WorkdirLock(tmp_path)
    else:
        WorkdirLock(tmp_path).__exit__()


def test_it_beats_and_notices_that_another_took_it(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "BEAT_SEC", 0.01)
    file = tmp_path / LOCK_FILE
    with WorkdirLock(tmp_path) as held:
        os.utime(file, (0, 0))
        wait_until(lambda: file.stat().st_mtime > time.time() - STALE_SEC)
        held.check()
        file.write_text(json.dumps({"host": "elsewhere", "pid": 1}))
        wait_until(lambda: held.lost)
        with pytest.raises(UserError, match="was taken over by another process"):
            held.check()
    assert file.exists()  # it is the other's


def wait_until(reached):
    deadline = time.monotonic() + 20
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_workdir_where_nothing_can_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write to workdir=.*file/run: Not a directory"):
        WorkdirLock(tmp_path / "file" / "run")

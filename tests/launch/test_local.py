"""Several real processes of this machine: a stand-in for the run, so that ends of all kinds take no time."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from adafocus_jax.errors import UserError
from adafocus_jax.launch import local
from adafocus_jax.launch.local import LocalProcesses, launch_local

FAKE = Path(__file__).with_name("fake_adafocus.sh")


def stand_in(words):
    """The command of the stand-in for one process of a run."""
    index = words[words.index("--process-id") + 1] if "--process-id" in words else "0"
    words = words[: words.index("--coordinator")] if "--coordinator" in words else words
    return ["env", f"FAKE_WORKER={index}", "bash", str(FAKE), *words]


@pytest.fixture(autouse=True)
def _stand_in(monkeypatch):
    monkeypatch.setattr(local, "_command", stand_in)
    monkeypatch.setattr(local, "GRACE_SEC", 5.0)


def words(workdir, *faults):
    return ["train", "--workdir", str(workdir), "8", *faults]


def starts(workdir) -> int:
    return len((workdir / "starts").read_text().splitlines())


def test_all_processes_run_once(tmp_path):
    assert launch_local(words(tmp_path), LocalProcesses(4)) == 0
    assert starts(tmp_path) == 4
    assert "done" in (tmp_path / "launch" / "process-3.log").read_text()


@pytest.mark.parametrize("code", [75, 137, 143])
def test_a_process_that_ends_badly_ends_the_others_and_all_start_again(tmp_path, code):
    assert launch_local(words(tmp_path, f"1={code}@4"), LocalProcesses(2)) == 0
    assert starts(tmp_path) == 4
    assert not (tmp_path / "twice").exists()


def test_a_user_error_ends_the_run_and_its_line_is_shown(tmp_path, caplog):
    assert launch_local(words(tmp_path, "1=2@3"), LocalProcesses(2)) == 2
    assert starts(tmp_path) == 2
    assert "process 1: user error: fault at step 3" in caplog.text


def test_a_signal_ends_all_of_them_and_nothing_starts_again(tmp_path):
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import test_local; from pathlib import Path; from adafocus_jax.launch import local\n"
        "from adafocus_jax.cli.main import main\n"
        "local._command = test_local.stand_in\n"
        "words = test_local.words(Path(sys.argv[2]))\n"
        "sys.exit(main(['launch', 'local', '--processes', '2', '--', *words]))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(Path(__file__).parent), str(tmp_path)])
    deadline = time.monotonic() + 60
    while not (tmp_path / "checkpoints" / "2").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 128 + signal.SIGTERM
    assert starts(tmp_path) == 2


def test_what_is_asked_for_is_what_a_process_sees(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    assert LocalProcesses(2).environment(1) == {"CUDA_VISIBLE_DEVICES": "1,3"}
    with pytest.raises(UserError, match="processes=8 is more than the 4 GPUs"):
        LocalProcesses(8).environment(0)
    assert "device_count=2" in LocalProcesses(2, devices=2).environment(0)["XLA_FLAGS"]
    cores = os.sched_getaffinity(0)
    assert set.union(*(LocalProcesses(len(cores)).cores(index) for index in range(len(cores)))) == cores
    with pytest.raises(UserError, match="processes=0"):
        LocalProcesses(0)

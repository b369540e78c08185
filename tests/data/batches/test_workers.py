"""Scripts with worker processes: what their users read when something ends them, and that nothing is left behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[3]

HEAD = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # also where a shell without job control ignores it
from adafocus_jax.data.batches.clips import ClipSpec
from adafocus_jax.data.batches.pipeline import train_batches
from adafocus_jax.data.records.reader import open_records

def batches():
    source = open_records(sys.argv[1], "train")
    return train_batches(source, ClipSpec(3, 8), batch_size=4, seed=0, num_steps=99, num_workers=1, num_threads=1)
"""
UNGUARDED = "next(batches())\n"
INTERRUPTED = """
if __name__ == "__main__":
    first = batches()
    held = next(first)
    second = batches()
    print("starts", flush=True)
    next(second)
    import time
    time.sleep(60)  # Where the worker was faster than the interruption.
"""


def start(tmp_path: Path, records: Path, script: str) -> subprocess.Popen:
    (tmp_path / "script.py").write_text(HEAD + script)
    return subprocess.Popen(
        [sys.executable, str(tmp_path / "script.py"), str(records)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        start_new_session=True,
    )


def test_a_script_without_a_main_guard_is_told_so(records, tmp_path):
    with start(tmp_path, records, UNGUARDED) as run:
        _, errors = run.communicate(timeout=120)
    assert run.returncode == 1
    assert errors.startswith("a worker process has run the whole script again.")
    last = errors.splitlines()[-1]
    assert "UserError: a data worker ended with status 1 as it started" in last
    assert 'needs if __name__ == "__main__":' in last


def test_ctrl_c_is_one_traceback_and_leaves_no_shared_memory(records, tmp_path):
    """As one worker starts, another is at work, and a batch of it is still held."""
    with start(tmp_path, records, INTERRUPTED) as run:
        assert run.stdout.readline() == "starts\n"
        time.sleep(0.5)  # The new worker is importing.
        os.killpg(run.pid, signal.SIGINT)
        _, errors = run.communicate(timeout=120)
    assert run.returncode == -signal.SIGINT
    assert errors.count("Traceback") == errors.count("KeyboardInterrupt") == 1, errors
    assert "leaked" not in errors
    assert "resource_tracker" not in errors

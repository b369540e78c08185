"""Storage that fills up, fails or stalls at the n-th call, in real processes: a status of ours, soon, and no loss."""

import errno
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import adafocus_jax
from adafocus_jax.checkpoint import load_checkpoint
from adafocus_jax.data.prepare.verify import inspect_records
from adafocus_jax.demo.videos import write_videos

TOY = Path(__file__).parents[1] / "train" / "toy.py"
STALL, STALL_SEC = 0, 3
MOST_SEC = 60

pytestmark = pytest.mark.skipif(
    shutil.which("gcc") is None, reason="the shim needs gcc (apt-get install gcc)"
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Runs Python with ``words``; below ``folder`` call ``at`` fails with ``error``. Status, errors."""
    shim = tmp_path_factory.mktemp("shim") / "shim.so"
    source = Path(__file__).with_name("shim.c")
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", shim, source, "-ldl"], check=True)
    always = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "LD_PRELOAD": str(shim)}

    def start(*words, folder, at=0, error=STALL):
        fault = {"FAULT_DIR": folder, "FAULT_AT": at, "FAULT_ERRNO": error, "FAULT_SEC": STALL_SEC}
        environment = os.environ | always | {name: str(value) for name, value in fault.items()}
        command = [sys.executable, *map(str, words)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=MOST_SEC)
        assert ("fault injected" in done.stderr) == (at > 0), done.stderr
        # TensorStore may print one of its own, when it learns late that nobody waits for it.
        assert f'File "{Path(adafocus_jax.__file__).parent}' not in done.stderr
        return done.returncode, done.stderr

    return start


@pytest.fixture(scope="module")
def whole(run, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("whole")
    assert run(TOY, workdir, folder=workdir)[0] == 0
    return load_checkpoint(workdir, "latest").variables


@pytest.mark.parametrize(
    ("at", "error"),
    [
        (6, errno.ENOSPC),  # config.json
        (24, errno.ENOSPC),  # the folder of a step, in Orbax
        (60, errno.ENOSPC),  # arrays, in TensorStore
        (150, errno.EIO),
        (100, STALL),
    ],
)
def test_training_ends_with_a_line_and_goes_on_bit_for_bit(at, error, run, whole, tmp_path):
    status, errors = run(TOY, tmp_path, folder=tmp_path, at=at, error=error)
    assert status == (2 if error else 0), errors
    assert not error or re.search(r"toy: .*(No space left|could not be written)", errors)
    assert run(TOY, tmp_path, folder=tmp_path)[0] == 0
    again = load_checkpoint(tmp_path, "latest")
    assert again.step == 12
    jax.tree.map(np.testing.assert_array_equal, again.variables, whole)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    out = tmp_path_factory.mktemp("videos")
    write_videos(out, num_train=10, num_test=10, workers=1, progress=False)
    return out / "train"


@pytest.mark.parametrize(("at", "error"), [(5, errno.ENOSPC), (20, errno.ENOSPC), (12, errno.EIO)])
def test_preparing_ends_with_a_line_and_is_completed_by_the_next_start(at, error, run, videos, tmp_path):
    out = tmp_path / "records"
    words = ["-m", "adafocus_jax", "prepare", videos, out, "--size", "32", "--workers", "1"]
    status, errors = run(*words, folder=out, at=at, error=error)
    assert status == 2, errors
    assert errors.splitlines()[-1].startswith("adafocus prepare: ")
    assert run(*words, folder=out)[0] == 0
    assert not inspect_records(out).damage

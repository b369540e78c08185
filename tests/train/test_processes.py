"""Several real processes as one run, on simulated devices: the same numbers as one, and what happens when one ends."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from adafocus_jax.checkpoint import load_checkpoint
from adafocus_jax.cli.main import run_command
from adafocus_jax.data.records.reader import open_records
from adafocus_jax.demo.videos import write_videos
from adafocus_jax.errors import UserError
from adafocus_jax.train.processes import connect, in_cluster
from adafocus_jax.train.starts import read_starts

SLURM = {"SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "localhost", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}

SHARDS = 12


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """A bucket of 12 shards, prepared straight into it, as words for the toy: caches hold less, in four lanes."""
    out = tmp_path_factory.mktemp("records")
    write_videos(out / "videos", num_train=20, num_test=10, workers=1, progress=False)
    url = f"file://{out}/records"
    prepare = ["prepare", str(out / "videos" / "train"), url, "--shards", str(SHARDS)]
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("XDG_CACHE_HOME", str(out))
        run_command([*prepare, "--size", "48", "--fps", "0", "--workers", "0"])
    size = sum(path.stat().st_size for path in (out / "records").glob("*array_record*")) / SHARDS
    return f"records={url}", f"cache={4.01 * size / 0.45 / 1e9}"


@pytest.fixture(scope="module")
def alone(toy, records, tmp_path_factory):
    """A run of 12 steps in one process with four devices."""
    workdir = tmp_path_factory.mktemp("alone")
    url, cache_gb = (word.partition("=")[2] for word in records)
    toy.run_on_records(workdir, url, float(cache_gb))
    return workdir


def rows(workdir, split="train"):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["split"] == split]


def assert_same_curve(workdir, reference):
    """Of all steps, to 1e-5."""
    (steps, losses), (_, expected) = (
        zip(*((row["step"], row["loss/total"]) for row in rows(folder)), strict=True)
        for folder in (workdir, reference)
    )
    assert steps == tuple(range(1, 13))
    np.testing.assert_allclose(losses, expected, atol=1e-5, rtol=0)


def together(script, workdir, number, *words, last=(), slurm=False):
    """Runs ``number`` processes over four devices; ``last`` are words for the last. Exit codes and errors."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    # The last flag counts.
    environment["XLA_FLAGS"] += f" --xla_force_host_platform_device_count={4 // number}"
    with socket.socket() as free:
        free.bind(("localhost", 0))
        join = f"localhost:{free.getsockname()[1]},{number}"
    started = []
    for process in range(number):
        mine = [
            *words,
            "join=" if slurm else f"join={join},{process}",
            *(last if process == number - 1 else ()),
        ]
        if slurm:
            environment |= SLURM | {"SLURM_NTASKS": str(number), "SLURM_PROCID": str(process)}
        command = [sys.executable, str(script), str(workdir), *mine]
        started.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))
    errors = [process.communicate(timeout=240)[1] for process in started]
    return [process.returncode for process in started], errors


def test_four_processes_give_the_curve_and_exactly_the_scores_of_one(
    toy, toy_script, records, alone, tmp_path
):
    codes, errors = together(toy_script, tmp_path, 4, *records)
    assert codes == [0] * 4, errors
    assert_same_curve(tmp_path, alone)
    local = open_records(records[0].partition("file://")[2], "train")
    scores = toy.evaluate_on(local, load_checkpoint(tmp_path, "latest").variables)
    assert rows(tmp_path, "eval") == [{"step": 12, "split": "eval", **scores}]
    assert all("step 12/12" not in error for error in errors[1:])  # process 0 alone writes logs
    fetched = [len(Path(f"{tmp_path}-cache-{n}", "fetched").read_text().splitlines()) for n in range(4)]
    assert sum(fetched) <= 6 * (SHARDS + 3), "5 epochs and an evaluation, all processes together"
    assert max(fetched) <= 6 * (SHARDS / 4 + 2)
    (start,) = read_starts(tmp_path)
    assert start["devices"] == {"platform": "cpu", "kind": "cpu", "count": 4, "processes": 4}


def test_a_signal_or_a_bad_record_in_one_of_two_stops_both_and_a_death_ends_both(
    toy, toy_script, records, alone, tmp_path
):
    words = toy_script, tmp_path, 2, *records, "parallel=shard_map"
    codes, errors = together(*words, last=["stop=7"], slurm=True)
    assert codes == [128 + signal.SIGTERM] * 2, errors
    stopped = load_checkpoint(tmp_path, "latest").step
    assert 7 <= stopped == rows(tmp_path)[-1]["step"] < 10
    codes, errors = together(*words, last=["bad=9"])
    assert codes == [2, 2], errors
    assert errors[1].splitlines()[-1] == "toy: a video does not read"
    told = "toy: another process could not read its data, see what it said: step 9 is saved"
    assert errors[0].splitlines()[-1] == told
    assert load_checkpoint(tmp_path, "latest").step == 9
    began = time.monotonic()
    codes, errors = together(*words, last=["die=11"])
    assert codes[1] == -signal.SIGKILL
    # The sum over processes fails at once, or never ends: then JAX ends the process when it misses the other one.
    how = {75: "toy: another process of the run ended", -signal.SIGABRT: "indicates that another task died"}
    assert how[codes[0]] in errors[0]
    assert "resuming from step 9" in errors[0]
    assert time.monotonic() - began < 60
    assert len(rows(tmp_path)) >= 9
    codes, errors = together(*words, last=["late=1"])
    assert codes == [128 + signal.SIGTERM] * 2, errors
    assert not rows(tmp_path, "eval")
    assert load_checkpoint(tmp_path, "latest").step == 12
    assert [start["step"] for start in read_starts(tmp_path)] == [0, stopped, 9, 9]  # it died at 11
    assert_same_curve(tmp_path, alone)


@pytest.mark.parametrize(
    "environ",
    [{"OMPI_COMM_WORLD_SIZE": "4"}, {"PMI_SIZE": "2"}, {"JOB_COMPLETION_INDEX": "1"}],
    ids=lambda environ: next(iter(environ)),
)
def test_pods_and_ranks_that_nobody_joins_do_not_train_each_alone(environ, monkeypatch):
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=next(iter(environ))):
        connect()


def test_slurm_and_tpu_pods_are_known_by_their_environment():
    assert in_cluster(SLURM | {"SLURM_NTASKS": "2"})
    assert not in_cluster(SLURM | {"SLURM_NTASKS": "1"})
    assert in_cluster({"TPU_WORKER_HOSTNAMES": "a,b"})
    assert not in_cluster({"TPU_WORKER_HOSTNAMES": "localhost", "TPU_SKIP_MDS_QUERY": "1"})
    assert in_cluster({"TPU_ML_PLATFORM": "JAX"})
    assert not in_cluster({})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("localhost:1", 2, None), "`process_id` missing: several processes need `coordinator`, "),
        ((None, 2, None), "`coordinator` and `process_id` missing"),
        (("localhost:1", 2, 2), "process_id=2 is not one of 0…1"),
        (("localhost:1", 1, 0), "do not find each other: .* must be called before"),  # JAX runs already
    ],
)
def test_flags_that_do_not_fit_together_are_refused(given, message):
    jax.devices()  # JAX runs
    with pytest.raises(UserError, match=message):
        connect(*given)

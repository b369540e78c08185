"""Storage that fills up, fails, stalls or gives too little, at the n-th call: a status of ours, soon, and no loss."""

import csv
import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

import adafocus_jax
from adafocus_jax.checkpoint import Checkpoints, load_checkpoint
from adafocus_jax.cli.main import run_command
from adafocus_jax.config import base_config, check_config, for_classes, make_model
from adafocus_jax.data.records.reader import open_records
from adafocus_jax.demo.videos import write_videos
from adafocus_jax.models import init_variables

STALL_SEC, MOST_SEC = 1, 120
PACKAGE = Path(adafocus_jax.__file__).parent
FAULTS = {
    "none": {},
    "full": {"FAULT_CALLS": "write", "FAULT_ERRNO": errno.ENOSPC, "FAULT_LATER": "all"},
    "unwritten": {"FAULT_CALLS": "write", "FAULT_ERRNO": errno.EIO, "FAULT_LATER": "none"},
    "stalled write": {"FAULT_CALLS": "write", "FAULT": "stall"},
    "short writes": {"FAULT_CALLS": "write", "FAULT": "short"},
    "unread": {"FAULT_CALLS": "read", "FAULT_ERRNO": errno.EIO, "FAULT_LATER": "none"},
    "bad file": {"FAULT_CALLS": "read", "FAULT_ERRNO": errno.EIO, "FAULT_LATER": "file"},
    "stalled read": {"FAULT_CALLS": "read", "FAULT": "stall"},
    "short reads": {"FAULT_CALLS": "read", "FAULT": "short"},
}
HARMLESS = [name for name, fault in FAULTS.items() if "FAULT_ERRNO" not in fault]

pytestmark = pytest.mark.skipif(
    shutil.which("gcc") is None, reason="the shim needs gcc (apt-get install gcc)"
)


class Ended(NamedTuple):
    """How a command ended."""

    status: int
    errors: str
    calls: dict[str, int]
    """Those that it made below its folder, of each kind."""


Run = Callable[..., Ended]


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> dict[str, str]:
    """Has the shim loaded."""
    shim = tmp_path_factory.mktemp("shim") / "shim.so"
    source = Path(__file__).with_name("shim.c")
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", shim, source, "-ldl"], check=True)
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "LD_PRELOAD": str(shim),
        "FAULT_SEC": str(STALL_SEC),
        "XLA_FLAGS": os.environ["XLA_FLAGS"].replace("device_count=4", "device_count=1"),
    }


@contextmanager
def serving(mode: str, environment: dict[str, str], errors: Path) -> Iterator[Run]:
    """Runs commands in a process (``stay``) or each in a fork of it; below a folder call ``at`` meets a fault."""
    command = [sys.executable, Path(__file__).with_name("server.py"), mode]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "start_new_session": True}
    with subprocess.Popen(command, env=environment, **pipes) as server:
        assert server.stdout.readline() == "ready\n"

        def run(words, folder, fault="none", at=0, most=2) -> Ended:
            env = {"FAULT_DIR": str(folder), "FAULT_AT": str(at), "FAULT": "", "FAULT_LATER": ""}
            env |= {name: str(value) for name, value in FAULTS[fault].items()}
            request = {"words": list(map(str, words)), "env": env, "errors": str(errors)}
            bound = threading.Timer(MOST_SEC, os.killpg, (server.pid, signal.SIGKILL))
            bound.start()
            print(json.dumps(request), file=server.stdin, flush=True)
            line = server.stdout.readline()
            bound.cancel()
            told = errors.read_text(errors="replace")
            assert line, f"it did not end in {MOST_SEC} s, or ended its process: {told}"
            answer = json.loads(line)
            assert 0 <= answer["status"] <= most, told
            assert ("fault injected" in told) == (at > 0), told
            # TensorStore may print one of its own, when it learns late that nobody waits for it.
            assert f'File "{PACKAGE}' not in told
            return Ended(answer.pop("status"), told, answer)

        yield run
        server.stdin.close()
        assert server.wait(MOST_SEC) == 0


@pytest.fixture(scope="module")
def fork(environment, tmp_path_factory) -> Iterator[Run]:
    with serving("fork", environment, tmp_path_factory.mktemp("fork") / "errors") as run:
        yield run


@pytest.fixture(scope="module")
def stay(environment, tmp_path_factory) -> Iterator[Run]:
    with serving("stay", environment, tmp_path_factory.mktemp("stay") / "errors") as run:
        yield run


@pytest.fixture
def run(request, name) -> Run:
    """For the job of that name: the dear ones, with a model to trace, run in one process."""
    return request.getfixturevalue("stay" if name.startswith(("evaluate", "predict")) else "fork")


@dataclass(frozen=True)
class Job:
    """A command that works below one folder."""

    words: Callable[[Path], list[Any]]
    result: Callable[[Path], Any]
    """What it leaves, to be compared."""
    source: Path | None = None
    """What it finds there."""
    below: str = ""
    """The folder within that one whose calls meet faults; empty: all of it."""

    def folder(self, path: Path) -> Path:
        """Makes what it finds at ``path``."""
        if self.source is not None:
            shutil.copytree(self.source, path)
        else:
            path.mkdir()
        return path


@pytest.fixture(scope="module")
def jobs(fork, tmp_path_factory) -> dict[str, Job]:
    """By name; all on ten videos of ten classes, but for training."""
    stopped = tmp_path_factory.mktemp("stopped")
    assert fork(["toy", stopped, "stop=7"], stopped, most=143).status == 143
    base = tmp_path_factory.mktemp("base")
    write_videos(base / "videos", num_train=10, num_test=10, workers=1, progress=False)
    run_command(["prepare", *map(str, prepare_words(base)[1:])])
    classes = open_records(base / "records", "train").classes
    config = base_config("uni_adafocus_tiny")
    config.model.update(num_glance=4, num_candidates=8, num_focus=2, image_size=32, glance_size=16)
    config.model.update(patch_size=16, policy_hidden=4, temporal_hidden=4, classifier_hidden=8)
    settings = for_classes(check_config(config), classes)
    model = make_model(settings)
    with Checkpoints(base / "run" / "checkpoints", settings) as checkpoints:
        for step in (0, 1):
            variables = jax.tree.map(np.asarray, init_variables(model, jax.random.key(step)))
            checkpoints.save(step, {"step": np.int32(step), **variables})
    source = tmp_path_factory.mktemp("source") / "videos"
    shutil.copytree(base / "videos", source)
    return {
        "train": Job(lambda folder: ["toy", folder], trained),
        "resume": Job(lambda folder: ["toy", folder], trained, stopped),
        "prepare": Job(prepare_words, prepared, source.parent),
        "evaluate": Job(evaluate_words, evaluated, base),
        "predict": Job(predict_words, predicted, base),
        "evaluate records": Job(evaluate_words, evaluated, base, "records"),
        "predict videos": Job(predict_words, predicted, base, "videos"),
    }


def trained(folder: Path) -> Any:
    found = load_checkpoint(folder, "latest")
    return found.step, found.variables


def prepare_words(folder: Path) -> list[Any]:
    return ["prepare", folder / "videos" / "train", folder / "records", "--size", 32, "--workers", 0]


def prepared(folder: Path) -> Any:
    files = [path for path in sorted((folder / "records").rglob("*")) if path.is_file()]
    return {path.name: path.read_bytes() for path in files if not path.name.endswith(".lock")}


def evaluate_words(folder: Path) -> list[Any]:
    words = ["--checkpoint", folder / "run", "--data", folder / "records", "--split", "train"]
    return ["evaluate", *words, "--early-exit", "--out", folder / "out", "--json", folder / "figures.json"]


def evaluated(folder: Path) -> Any:
    texts = ["figures.json", "out/figures.json", "out/early_exit.csv", "run/checkpoints/early_exit.json"]
    with np.load(folder / "out" / "predictions.npz") as arrays:
        return [(folder / name).read_text() for name in texts], dict(arrays)


def predict_words(folder: Path) -> list[Any]:
    out = ["--jsonl", folder / "out.jsonl", "--csv", folder / "out.csv", "--json", folder / "out.json"]
    return ["predict", "--checkpoint", folder / "run", folder / "videos" / "train", *out]


def predicted(folder: Path) -> Any:
    lines = [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]
    assert json.loads((folder / "out.json").read_text())["videos"] == lines
    with open(folder / "out.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    own = [{**entry, "ms": None, "video": Path(entry["video"]).name} for entry in lines]
    return own, [
        {key: _number(text) for key, text in row.items()} | {"video": Path(row["video"]).name} for row in rows
    ]


def _number(text: str) -> float | str:
    with suppress(ValueError):
        return float(text)
    return text


@pytest.fixture(scope="module")
def whole(jobs, tmp_path_factory):
    """What a job leaves that meets no fault, and the calls that it makes."""
    found = {}

    def find(name: str, run: Run) -> tuple[Any, dict[str, int]]:
        if name not in found:
            folder = jobs[name].folder(tmp_path_factory.mktemp(name) / "whole")
            ended = run(jobs[name].words(folder), folder / jobs[name].below)
            assert ended.status == 0, ended.errors
            found[name] = jobs[name].result(folder), ended.calls
        return found[name]

    return find


def check(name, fault, place, run, jobs, whole, tmp_path) -> None:
    """Has a job meet a fault at ``place`` of its calls, from 0 to 1, and starts it again."""
    job, folder = jobs[name], jobs[name].folder(tmp_path / "here")
    rtol = 1e-5 if name.startswith("predict") else 0  # videos that come late meet buckets of another size
    expected, calls = whole(name, run)
    ended = run(
        job.words(folder), folder / job.below, fault, 1 + int(place * calls[FAULTS[fault]["FAULT_CALLS"]])
    )
    print(ended.status, ended.errors)
    if ended.status == 0:
        assert_same(job.result(folder), expected, rtol)
    elif ended.status == 1:  # one of several videos failed, and is named
        assert name.startswith("predict")
        assert "not a readable video: Input/output error" in ended.errors
    else:
        # Not always the last line: Orbax's threads may print tracebacks of their own.
        assert re.search(f"^(toy|adafocus {name.split()[0]}): ", ended.errors, re.MULTILINE)
    if fault in HARMLESS:
        assert ended.status == 0
        return
    again = run(job.words(folder), folder)
    assert again.status == 0, again.errors
    assert_same(job.result(folder), expected, rtol)


def assert_same(found: Any, expected: Any, rtol: float) -> None:
    def check_leaf(one: Any, other: Any) -> None:
        if rtol and isinstance(one, float):
            np.testing.assert_allclose(one, other, rtol=rtol)
        else:
            np.testing.assert_array_equal(one, other)

    jax.tree.map(check_leaf, found, expected)


@pytest.mark.parametrize(
    ("name", "fault", "place"),
    [
        ("train", "full", 0.02),  # config.json
        ("train", "full", 0.3),  # a checkpoint
        ("train", "unwritten", 0.6),
        ("train", "stalled write", 0.4),
        ("resume", "bad file", 0.5),
        ("prepare", "full", 0.3),
        ("prepare", "unwritten", 0.6),
        ("prepare", "unread", 0.5),
        ("prepare", "bad file", 0.5),
        ("prepare", "stalled write", 0.5),
        ("evaluate", "full", 0.1),
        ("evaluate", "unwritten", 0.8),
        ("evaluate", "unread", 0.2),
        ("evaluate", "short reads", 0.0),
        ("evaluate records", "unread", 0.8),
        ("evaluate records", "bad file", 0.5),
        ("predict", "full", 0.5),
        ("predict videos", "unread", 0.1),  # a folder of videos
        ("predict videos", "bad file", 0.8),
    ],
)
def test_ends_with_a_status_of_ours_and_the_next_start_gives_all(
    name, fault, place, run, jobs, whole, tmp_path
):
    check(name, fault, place, run, jobs, whole, tmp_path)


EVERYWHERE = [
    (name, fault, round(float(place), 2))
    for name in ("train", "resume", "prepare", "evaluate", "predict", "evaluate records", "predict videos")
    for fault in list(FAULTS)[1:]
    for place in np.linspace(0, 0.8, 9)  # the number of calls varies a little
    # The others do hardly read, or not write, there.
    if (FAULTS[fault]["FAULT_CALLS"] == "write" and " " not in name)
    or (FAULTS[fault]["FAULT_CALLS"] == "read" and name != "train")
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "fault", "place"), EVERYWHERE)
def test_at_many_places(name, fault, place, run, jobs, whole, tmp_path):
    check(name, fault, place, run, jobs, whole, tmp_path)

"""Real training and evaluation by ``adafocus launch local``: a sweep's trial, and its checkpoint, in two processes."""

import json
from pathlib import Path

import numpy as np
import pytest

from adafocus_jax.cli.main import main, run_command
from adafocus_jax.demo.videos import write_videos
from adafocus_jax.sweep import SweepFolder
from adafocus_jax.train.starts import read_starts

CONFIG = str(Path(__file__).parents[2] / "configs" / "demo.py")
SMALL = {
    "train.steps": 1,
    "train.batch_size": 4,
    "train.log_every": 1,
    "train.eval_pictures": 0,
    "data.resize": 48,
    "model.image_size": 48,
    "model.num_candidates": 4,
    "model.num_glance": 2,
    "model.num_focus": 2,
}
LAUNCH = ["launch", "local", "--processes", "2", "--devices", "2"]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory) -> Path:
    """A sweep of one trial, which two processes with two devices each have trained."""
    out = tmp_path_factory.mktemp("sweep")
    write_videos(out / "videos", num_train=10, num_test=10, workers=1, progress=False)
    videos = out / "videos"
    prepare = ["prepare", str(videos / "train"), str(out / "records"), "--val-src", str(videos / "test")]
    run_command([*prepare, "--size", "48", "--fps", "0", "--workers", "0"])
    (out / "own.py").write_text("def sweep_lr():\n    yield {'optimizer.lr': 0.01}\n")
    words = ["sweep", str(out / "sweep"), "--config", CONFIG, "--data", str(out / "records")]
    words += ["--sweep", f"{out / 'own.py'}:lr", "--jobs", "0"]
    assert main([*words, *(f"--config.{key}={value}" for key, value in SMALL.items()), "--", *LAUNCH]) == 0
    return out / "sweep"


def test_a_trial_is_trained_by_launched_processes(sweep):
    (trial,) = SweepFolder(sweep).trials()
    assert trial.result["state"] == "done"
    assert trial.result["metrics"]["step"] == 1
    assert trial.result["objectives"]["top1"] == trial.result["metrics"]["top1"]
    (start,) = read_starts(trial.workdir)
    assert start["devices"] == {"platform": "cpu", "kind": "cpu", "count": 4, "processes": 2}


def test_two_processes_find_exactly_the_scores_of_one(sweep, tmp_path):
    (trial,) = SweepFolder(sweep).trials()
    words = ["evaluate", "--checkpoint", str(trial.workdir), "--batch-size", "8", "--out"]
    assert main([*LAUNCH, "--", *words, str(tmp_path / "two")]) == 0
    assert main([*words, str(tmp_path / "one")]) == 0
    one, two = ((tmp_path / name / "figures.json").read_text() for name in ("one", "two"))
    assert json.loads(one) == json.loads(two)
    with (
        np.load(tmp_path / "one/predictions.npz") as alone,
        np.load(tmp_path / "two/predictions.npz") as both,
    ):
        assert len(alone["index"]) == 10
        for name in alone.files:
            np.testing.assert_array_equal(alone[name], both[name])


def test_what_returns_before_the_run_is_over_starts_no_trials(tmp_path, capsys):
    words = ["sweep", str(tmp_path / "sweep"), "--config", CONFIG, "--sweep", "own.py:lr"]
    assert main([*words, "--", "launch", "slurm"]) == 2
    assert "'launch slurm' cannot start the trials of a sweep" in capsys.readouterr().err

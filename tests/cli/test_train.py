"""``adafocus train`` as a process: signals, exit status, divergence. The main job has its own test."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import pytest

from adafocus_jax.checkpoint import load_checkpoint
from adafocus_jax.cli.main import main, run_command
from adafocus_jax.train import TrainingDivergedError, TrainResult

ROOT = Path(__file__).parents[2]
SMALL = [
    "--config.model.num_candidates=4",
    "--config.model.num_glance=2",
    "--config.model.num_focus=1",
    "--config.model.image_size=48",
    "--config.model.glance_size=24",
    "--config.model.patch_size=16",
    "--config.model.width=0.5",
    "--config.data.resize=48",
    "--config.train.batch_size=8",
    "--config.train.log_every=1",
    "--config.train.eval_pictures=0",
]


def words(records, workdir, *flags):
    config = ["--config", str(ROOT / "configs" / "demo.py")]
    return ["train", *config, "--data", str(records), "--workdir", str(workdir), *SMALL, *flags]


def test_sigterm_saves_and_exits_with_143(records, tmp_path):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])}
    command = [sys.executable, "-m", "adafocus_jax.cli.main", *words(records, tmp_path)]
    log, deadline = tmp_path / "metrics.jsonl", time.monotonic() + 300
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and time.monotonic() < deadline and not log.exists():
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 143, errors
    assert "Traceback" not in errors
    config, _, step = load_checkpoint(tmp_path, "latest")
    assert step == len(log.read_text().splitlines())
    assert len(config["classes"]) == config["model"]["num_classes"] == 10


def test_divergence_is_one_line_and_exit_status_1(records, tmp_path, monkeypatch):
    def diverge(*_, **__):
        raise TrainingDivergedError("training diverged at step 7: loss/total nan")

    monkeypatch.setattr("adafocus_jax.config.training.train", diverge)
    with pytest.raises(SystemExit) as stop:
        main(words(records, tmp_path))
    assert (
        stop.value.code == "adafocus train: training diverged at step 7: loss/total nan"
    )  # printed; status 1


def test_short_flags_reach_the_library(records, tmp_path, monkeypatch):
    given = {}
    result = TrainResult(step=0)
    monkeypatch.setattr(
        "adafocus_jax.config.training.train", lambda *_, **options: given.update(options) or result
    )
    flags = ["--init-from", str(tmp_path / "old"), "--on-nan", "skip", "--profile", "3:2"]
    run_command(words(records, tmp_path, *flags, "--config.train.accumulate=2"))
    options = given["options"]
    assert (options.on_nan, options.profile, options.accumulate) == ("skip", (3, 2), 2)
    assert given["initialize"].args[0] == given["config"]["init"]["checkpoint"] == str(tmp_path / "old")
    run_command(words(records, tmp_path))
    assert given["initialize"] is None


@pytest.mark.parametrize(
    ("configured", "flags", "expected"),
    [(None, [], "{cache}/adafocus_jax"), ("/mine", [], "/mine"), ("/mine", ["--no-compile-cache"], None)],
)
def test_compiled_programs_stay_for_the_next_start(
    records, tmp_path, monkeypatch, configured, flags, expected
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("adafocus_jax.config.training.train", lambda *_, **__: TrainResult(step=0))
    jax.config.update("jax_compilation_cache_dir", configured)
    assert main(words(records, tmp_path / "run", *flags)) == 0
    assert jax.config.jax_compilation_cache_dir == (expected and expected.format(cache=tmp_path))


def test_a_profile_that_is_none_is_refused(records, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(words(records, tmp_path, "--profile", "0:2"))
    assert "'0:2' is not START:STEPS, such as 10:5" in capsys.readouterr().err


def test_figures_come_as_json_and_training_ends_evaluated(records, tmp_path, capsys):
    figures = tmp_path / "figures.json"
    run = words(records, tmp_path / "run", "--config.train.steps=2", "--config.train.parallel=shard_map")
    watch = ["--config.train.peak_tflops=0.01", "--profile", "2:1", "--no-compile-cache"]
    assert main([*run, *watch, "--json", str(figures)]) == 0
    assert json.loads(figures.read_text()).keys() == {"step", "top1", "top5", "mAP"}
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [(row["step"], row["split"]) for row in rows] == [(1, "train"), (2, "train"), (2, "eval")]
    assert 0 < rows[1]["flop_utilization"] < 10
    assert list((tmp_path / "run" / "profile").rglob("*.xplane.pb"))
    assert jax.config.jax_compilation_cache_dir is None
    out, err = capsys.readouterr()
    assert f"checkpoints in {tmp_path / 'run'}" in out
    assert "learning rate 0.002 belongs to a batch of 16: rescaled linearly to 0.001 for a batch of 8" in err

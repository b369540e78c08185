"""``adafocus sweep`` with real training, in processes of its own."""

import json
from functools import partial

import pytest

from adafocus_jax.cli.main import main
from adafocus_jax.watchdog import Watchdog

CONFIG = """
from adafocus_jax.config import base_config


def get_config():
    config = base_config("tsm_tiny")
    config.model.update({"image_size": 24, "num_candidates": 2})
    config.data.resize = 24
    config.train.update({"steps": 2, "batch_size": 4, "eval_pictures": 0})
    return config
"""
SWEEP = """
def sweep_lr():
    yield {"optimizer.lr": 0.01}
    yield {"optimizer.lr": 0.02}
"""


@pytest.fixture
def words(records, tmp_path) -> list[str]:
    (tmp_path / "config.py").write_text(CONFIG)
    (tmp_path / "own.py").write_text(SWEEP)
    sweep = [str(tmp_path / "sweep"), "--config", str(tmp_path / "config.py"), "--data", str(records)]
    return ["sweep", *sweep, "--sweep", f"{tmp_path / 'own.py'}:lr", "--objective", "top1,gflops"]


def test_trials_run_as_processes_and_the_report_compares_them(words, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("adafocus_jax.sweep.launcher.Watchdog", partial(Watchdog, 0.5))
    assert main([*words, "--jobs", "2", "--json", str(tmp_path / "figures.json")]) == 0
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["trials"] == 2
    assert sorted(row["settings"]["optimizer.lr"] for row in figures["rows"]) == [0.01, 0.02]
    assert all(row["objectives"]["gflops"] > 0 for row in figures["rows"])
    sweep = tmp_path / "sweep"
    for number in ("0000", "0001"):
        assert (sweep / "trials" / number / "run" / "checkpoints" / "2").is_dir()
    told = capsys.readouterr()
    assert "optimizer.lr" in told.out
    assert "still waiting for trials 0, 1 (each writes to log.txt in its folder)" in told.err
    assert main(["sweep", "report", str(sweep)]) == 0
    assert (sweep / "report.html").is_file()
    assert (
        (sweep / "trials.csv")
        .read_text()
        .startswith("trial,state,optimizer.lr,top1,gflops,seconds,reason\n0,done")
    )
    assert main(words) == 0, "nothing is left to do"


def test_a_dry_run_lists_the_trials_and_runs_nothing(words, tmp_path, capsys):
    assert main([*words, "--dry-run"]) == 0
    lines = capsys.readouterr().out.strip().splitlines()
    assert [line.split()[-1] for line in lines] == ["optimizer.lr=0.01", "optimizer.lr=0.02"]
    assert not (tmp_path / "sweep").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--objective", "accuracy"], "objective 'accuracy' is not known"),
        (["--config.optimizer.lr2=1"], 'Did you mean "lr"'),
        (["--space", "own.py"], "give one, not both"),
        (["--prune", "asha"], "set train.eval_every"),
        (["--jobs", "-1"], "--jobs -1 is not valid"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(words, tmp_path, capsys, change, message):
    assert main([*words, *change]) == 2
    assert message in capsys.readouterr().err


def test_a_report_of_nothing(tmp_path, capsys):
    assert main(["sweep", "report", str(tmp_path)]) == 2
    assert "no sweep in" in capsys.readouterr().err

"""The report of a run, from workdirs as training, crashes and conversion leave them."""

import json
from dataclasses import replace

import numpy as np
import pytest

from adafocus_jax.config import base_config, for_classes
from adafocus_jax.errors import UserError
from adafocus_jax.flops import model_cost
from adafocus_jax.models import create_model
from adafocus_jax.visualize.curves import training_curves
from adafocus_jax.visualize.report import Picture, Table, render_html
from adafocus_jax.visualize.run import read_run, write_figures
from adafocus_jax.visualize.run_report import run_report
from adafocus_jax.visualize.sections import exits_section, training_section

CLASSES = ("run", "jump")
TRAIN = {"split": "train", "loss/total": 2.0, "loss/exits": 2.0, "loss/glance": 0.0, "top1": 50.0}
PACE = {"examples_per_sec": 25.0, "data_wait_frac": 0.25}


@pytest.fixture(scope="module")
def cost():
    return model_cost(create_model("tsm_tiny", num_classes=2))


def write_run(workdir, model="uni_adafocus_tiny", rows=(), checkpoints=None, **train):
    """A workdir with what of it is plain text: ``read_run`` reads no arrays."""
    config = for_classes(base_config(model).to_dict(), CLASSES)
    config["train"].update(train)
    folder = workdir / "checkpoints"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    for step, metrics in (checkpoints or {}).items():
        (folder / str(step) / "metrics").mkdir(parents=True)
        (folder / str(step) / "metrics" / "metrics").write_text(metrics)
    if rows:
        (workdir / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return workdir


def figures(num_exits, **more):
    exits = {f"exit{e}_mAP": 10.0 * e + 5 for e in range(num_exits)}
    costs = [0.5 + e for e in range(num_exits)]
    known = {"split": "val", "videos": 9, "step": 40, "crops": 3, "top1": 1.0, "top5": 2.0, "mAP": 3.0}
    return {**known, "exits": exits, "exit_gflops": costs, **more}


def sections(report):
    return {section.title: section for section in report.sections}


def tables(section):
    return [item for item in section.content if isinstance(item, Table)]


def test_a_crashed_run_shows_what_it_wrote(tmp_path, cost):
    rows = [{"step": s, **TRAIN, **PACE} for s in (20, 40)]
    rows.insert(1, {"step": 20, "split": "eval", "top1": 60.0, "mAP": 55.0})
    saved = {20: '{"top1": 60.0, "score": 60.0}', 30: '{"top1": 40.0, "score": 40.0}', 40: "{}", 45: '{"to'}
    workdir = write_run(tmp_path / "mine", rows=rows, checkpoints=saved, steps=200)
    with open(workdir / "metrics.jsonl", "a") as file:
        file.write('{"step": 60, "split": "tra')
    run = read_run(workdir)
    assert [row["step"] for row in run.rows] == [20, 20, 40]
    assert (run.step, run.best) == (45, 20)
    report = run_report(run, cost, num_steps=200, why_none="the records are gone.")
    values = [(headline.value, headline.note) for headline in report.headlines]
    assert values[:2] == [("60.0%", "step 20, held-out videos"), ("22%", "step 45 of 200")]
    assert values[3] == ("25", "25% of the time waiting for data")
    assert "in progress, or was stopped" in report.summary[1]
    found = sections(report)
    measured, kept = tables(found["Evaluations and checkpoints"])
    assert measured.columns == ("step", "top1", "mAP")
    assert measured.rows == (("20", "60", "55"),)
    assert [row[1:] for row in kept.rows] == [
        ("best", "top1 60"),
        ("fallback", "top1 40"),
        ("fallback", "none"),
        ("latest", "damaged"),
    ]
    assert "adafocus evaluate --checkpoint" in found["Early exit"].text[0]
    assert found["Held-out videos"].text == ("the records are gone.",)
    html = render_html(report)
    assert "optimizer.groups.spatial_policy.factor" in html
    assert "2 classes: run, jump." in html


def test_a_converted_checkpoint_has_no_log(tmp_path, cost):
    run = read_run(write_run(tmp_path / "theirs", "tsm_tiny", checkpoints={0: "{}"}) / "checkpoints")
    report = run_report(run, cost, num_steps=None)
    assert run.workdir == tmp_path / "theirs"
    assert (run.step, run.best, run.rows, run.last_logged) == (0, None, [], None)
    assert len(report.summary) == 1
    assert [headline.label for headline in report.headlines] == ["multiply-adds per video"]
    assert "converted" in sections(report)["Training"].text[0]


def test_a_run_that_has_saved_nothing_yet(tmp_path, cost):
    run = read_run(write_run(tmp_path / "new", rows=[{"step": 1, **TRAIN}], steps=1))
    report = run_report(run, cost, num_steps=1)
    assert "Training is complete" in report.summary[1]
    assert sections(report)["Evaluations and checkpoints"].text == ("No checkpoint has been saved yet.",)


def test_what_is_no_workdir_is_refused(tmp_path):
    with pytest.raises(UserError, match="is not a checkpoint"):
        read_run(tmp_path)


def test_figures_of_an_evaluation_are_found(tmp_path, cost):
    run = read_run(write_run(tmp_path / "mine"))
    controls = [{"spatial": "random", "temporal": "learned", "top1": 12.0, "mAP": np.float64(8.0)}]
    curves = {"fixed depth": {"gflops": [0.5, 1.5], "mAP": [5.0, 15.0]}}
    write_figures(run.workdir / "evaluation", figures(11, controls=controls, early_exit=curves))
    found = sections(run_report(read_run(run.workdir), cost, num_steps=None))
    assert tables(found["Learned policies against controls"])[0].rows == (
        ("random", "learned", "12.0", "8.0"),
    )
    exits = found["Early exit"]
    assert "Checkpoint of step 40 on 9 videos (crops of each: 3): top1 1.0%" in exits.text[0]
    assert [type(item) for item in exits.content] == [Picture, Table]
    assert exits.content[1].columns == ("exit", "GFLOPs", "mAP %")
    assert exits.content[1].rows[7:9] == (("glance frame 8", "7.5", "75.0"), ("patch 1", "8.5", "85.0"))


@pytest.mark.parametrize(("exits", "names"), [(1, ["all"]), (2, ["the glance", "all"])])
def test_models_of_one_or_two_exits(exits, names):
    section = exits_section(figures(exits), {"num_glance": 8})
    assert section.title == "Exits"
    assert [row[0] for row in section.content[0].rows] == names


def test_training_draws_the_panels_that_the_log_fills(monkeypatch):
    drawn = []

    def remember(rows, panels):
        drawn.append({label: list(names) for label, names in panels.items()})
        return training_curves(rows, panels)

    monkeypatch.setattr("adafocus_jax.visualize.sections.training_curves", remember)
    more = {"policy/box_step_px": 0.0, "skipped": 0.0}
    rows = [{"step": 1, **TRAIN, **more}, {"step": 1, "split": "eval", "top1": 3.0}]
    assert len(training_section(rows, policies=True).content) == 3
    learning, policies, pace = drawn
    assert learning == {
        "loss (nats)": ["loss/total"],
        "loss terms (nats)": ["loss/exits"],
        "accuracy (%)": ["top1", "eval/top1"],
    }
    assert policies == {"box movement (px)": ["policy/box_step_px"]}
    assert pace == {"skipped": ["skipped"]}  # of the rest nothing was measured
    assert len(training_section(rows, policies=False).content) == 2


def test_of_equal_checkpoints_the_later_is_the_best(tmp_path):
    run = read_run(write_run(tmp_path / "a", checkpoints={1: '{"score": 5.0}', 2: '{"score": 5.0}'}))
    assert run.best == 2
    assert replace(run, checkpoints={}).best is None

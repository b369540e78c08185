"""What the demo says of a run: held against the truth of its videos, the controls and other seeds."""

import json
import runpy
from dataclasses import asdict, replace
from pathlib import Path
from unittest.mock import patch

import cv2
import numpy as np
import pytest

from adafocus_jax.cli.demo import CONFIG
from adafocus_jax.data.records.reader import open_records
from adafocus_jax.demo.outcome import read_outcome
from adafocus_jax.demo.report import learned_table
from adafocus_jax.demo.score import source_frames
from adafocus_jax.demo.verdict import Spread, judge
from adafocus_jax.evaluate.evaluators import EVALUATORS
from adafocus_jax.evaluate.exits import solve_policies, store_policies
from adafocus_jax.evaluate.predict import Predictions
from adafocus_jax.metrics import top_k_accuracy
from adafocus_jax.sweep import SweepFolder

NUM_GLANCE, EXITS = 8, 11
GFLOPS = np.r_[np.linspace(0.1, 0.8, NUM_GLANCE), 4, 7, 10]


@pytest.fixture(scope="module")
def predicted(records):
    """Of a policy that finds every figure but the yellow ones, with the names of the videos."""
    truth = json.loads((records.parent / "videos" / "truth.json").read_text())
    source = open_records(records, "val")
    names = [source[i].name for i in range(10)]
    rng = np.random.default_rng(0)
    indices, boxes = [], []
    for name in names:
        shown = [truth[name]["boxes"][t] for t in source_frames(np.arange(16), 16, 32)]
        there = [i for i, box in enumerate(shown) if box]
        chosen = [i for i in range(16) if i not in there][:3] if name.startswith("yellow") else there[:3]
        indices.append(chosen)
        boxes.append([shown[i] or [0, 0, 32, 32] for i in chosen])
    count, labels = len(names), np.array([[truth[name]["label"]] for name in names], np.int32)
    logits = rng.standard_normal((count, EXITS, 10)).astype(np.float32)
    logits[3, -1, labels[3, 0]] = 9  # names[3] is right, and the first that is
    logits[:3, -1, (labels[:3, 0] + 1) % 10] = 9
    predictions = Predictions(
        index=np.arange(count, dtype=np.int32),
        labels=labels,
        exit_logits=logits,
        frame_weights=np.full((count, NUM_GLANCE), 1 / NUM_GLANCE, np.float32),
        glance_indices=np.tile(np.arange(1, 16, 2, dtype=np.int32), (count, 1)),
        frame_indices=np.array(indices, np.int32),
        boxes=np.array(boxes, np.float32),
    )
    return predictions, names


@pytest.fixture(scope="module")
def outcome(records, predicted, tmp_path_factory):
    """As if ``adafocus evaluate`` had left the predictions."""
    workdir, (found, names) = tmp_path_factory.mktemp("run"), predicted
    for folder in ("checkpoints", "evaluation"):
        (workdir / folder).mkdir()
    np.savez(workdir / "evaluation" / "predictions.npz", **asdict(found))
    store_policies(workdir / "checkpoints", solve_policies(found, GFLOPS, "train"))
    figures = {"num_candidates": 16, "exit_gflops": GFLOPS.tolist()}
    return read_outcome(records.parent / "videos", records, workdir, figures), names


@pytest.fixture
def seeds_script():
    with patch.dict(EVALUATORS):
        yield runpy.run_path(str(CONFIG.parent / "sweeps" / "demo_seeds.py"))


def test_over_steps_it_is_told_where_and_when_it_looked(seeds_script, records, predicted):
    assert dict(seeds_script["looked"](records.parent, 16, predicted[0])) == pytest.approx(
        {
            "glance_top1": top_k_accuracy(predicted[0].exit_logits[:, NUM_GLANCE - 1], predicted[0].labels),
            "weight_entropy": 1,
            "frames": 80,
            "frames_worst_colour": 0,
            "covered": 100,
        }
    )


def test_seeds_have_data_of_their_own_and_a_line_each_in_every_panel(seeds_script, tmp_path):
    seeds_script["get_config"]()
    trials = list(seeds_script["sweep_seed"]())
    assert [Path(trial["data.dir"]).parts[-2] for trial in trials] == [str(trial["seed"]) for trial in trials]
    assert all(name in EVALUATORS for trial in trials for name in trial["train.evaluators"])
    sweep = SweepFolder(tmp_path / "sweep")
    sweep.create({})
    with sweep.lock():
        sweep.add(trials[0])
        sweep.add(trials[1])
    pictures = []
    for trial in sweep.trials():
        trial.workdir.mkdir()
        rows = [{"split": "eval", "step": s, **dict.fromkeys(seeds_script["PANELS"], s)} for s in (50, 100)]
        (trial.workdir / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        seeds_script["draw"](sweep.path, tmp_path / "seeds.png")
        pictures.append(cv2.imread(str(tmp_path / "seeds.png")))
    height = pictures[0].shape[0] // len(seeds_script["PANELS"])
    changed = (pictures[0] != pictures[1]).any(axis=(1, 2)).reshape(-1, height)
    assert changed.any(axis=1).all()


def figures(learned: float, control: float, glance: float) -> dict:
    """Of an evaluation in which random patches are the best control."""
    rows = [
        ("learned", "learned", learned),
        ("random", "learned", control),
        ("random", "uniform", control / 2),
    ]
    controls = [{"spatial": s, "temporal": t, "top1": top1} for s, t, top1 in rows]
    exits = {f"exit{i}_top1": glance if i == NUM_GLANCE - 1 else 99.0 for i in range(EXITS)}
    return {"top1": learned, "controls": controls, "exits": exits}


def test_outcome_tells_which_colour_is_left_out(outcome):
    found, names = outcome
    assert found.frames_by_colour == {"blue": 1, "green": 1, "purple": 1, "red": 1, "yellow": 0}
    assert found.score.frames_with_figure == pytest.approx(0.8)
    assert found.score.learned.figure_covered == pytest.approx(1)
    assert found.shown.name == names[3]
    assert found.shown.extra["true_class"] == names[3].split("/")[0]
    assert found.shown.extra["true_boxes"].shape == (16, 4)


def test_a_run_that_beats_its_controls_is_told_by_how_much(outcome):
    verdict = judge(figures(98, 80, 48), NUM_GLANCE, outcome[0])
    assert verdict.gain == 18
    assert not verdict.hints
    assert "beat every control" in verdict.sentence
    assert "random patches, learned frames) by 18 points" in verdict.sentence


@pytest.mark.parametrize(
    ("learned", "control", "glance", "sentence", "hints"),
    [
        (
            70,
            75,
            48,
            "do not beat random patches, learned frames at all (-5 points)",
            ["yellow 0%", "--seed 1"],
        ),
        (
            70,
            70,
            48,
            "do not beat random patches, learned frames at all (+0 points)",
            ["yellow 0%", "--seed 1"],
        ),
        (
            73,
            70,
            30,
            "beat random patches, learned frames only by 3 points",
            ["30%", "yellow 0%", "--seed 1"],
        ),
    ],
)
def test_a_run_that_does_not_says_so_and_what_to_look_at(outcome, learned, control, glance, sentence, hints):
    verdict = judge(figures(learned, control, glance), NUM_GLANCE, outcome[0])
    assert verdict.sentence.startswith("This run did not work")
    assert sentence in verdict.sentence
    assert len(verdict.hints) == len(hints)
    assert all(word in hint for word, hint in zip(hints, verdict.hints, strict=True))


def test_table_places_a_run_among_other_seeds_where_it_is_comparable(outcome):
    verdict = judge(figures(98, 80, 48), NUM_GLANCE, outcome[0])
    verdict = replace(
        verdict, figures=tuple((Spread("x", 90, 80, 95), value) for value in (76, 77, 98.4, 99))
    )
    table = learned_table(verdict, outcome[0], comparable=True)
    places = ["below all of them", "within their range", "within their range", "above all of them"]
    assert [row[-1] for row in table.rows] == places
    plain = learned_table(verdict, outcome[0], comparable=False)
    assert plain.rows == tuple(row[:-1] for row in table.rows)
    assert {len(row) for row in plain.rows} == {len(plain.columns)}

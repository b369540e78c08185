import csv
import os

import numpy as np
import pytest

from adafocus_jax.early_exit.curves import (
    SWEEP,
    ExitCurve,
    early_exit_curve,
    fixed_exit_curve,
    random_exit_curve,
    write_curve_csv,
)
from adafocus_jax.errors import UserError
from adafocus_jax.metrics import top_k_accuracy

COST = np.array([1.0, 2.0, 4.0])


def made_split(num_videos, seed):
    """Three exits; a video is easy, middling or hard, and is sure and right from exit 0, 1 or 2 on."""
    rng = np.random.default_rng(seed)
    labels, needed = rng.integers(0, 5, num_videos), rng.integers(0, 3, num_videos)
    logits = rng.standard_normal((num_videos, 3, 5)).astype(np.float32)
    right = np.arange(3) >= needed[:, None]
    logits[np.arange(num_videos), :, labels] += 8.0 * right
    return logits, labels


@pytest.fixture
def split():
    return made_split(300, seed=1)


@pytest.fixture
def metric(split):
    return lambda logits: top_k_accuracy(logits, split[1])


@pytest.mark.parametrize("criterion", ["confidence", "entropy"])
def test_golden_curve(golden, criterion):
    curve = early_exit_curve(
        golden["exit_calibration_logits"],
        golden["exit_test_logits"],
        golden["exit_stage_gflops"],
        lambda logits: top_k_accuracy(logits, golden["exit_test_labels"]),
        criterion=criterion,
        qs=golden["exit_ratios_p"],
    )
    np.testing.assert_allclose(curve.gflops, golden[f"exit_{criterion}_gflops"], rtol=1e-6)
    np.testing.assert_allclose(curve.metric, golden[f"exit_{criterion}_top1"], rtol=1e-6)
    np.testing.assert_allclose(curve.shares, golden[f"exit_{criterion}_ratios"], atol=1e-6)


def test_early_exit_beats_its_controls_at_equal_cost(split, metric):
    early = early_exit_curve(made_split(300, seed=0)[0], split[0], COST, metric, criterion="confidence")
    lots = random_exit_curve(early, split[0], COST, metric)
    fixed = fixed_exit_curve(split[0], COST, metric)
    np.testing.assert_allclose(early.gflops, lots.gflops)
    np.testing.assert_array_equal(early.shares, lots.shares)
    assert (early.metric >= lots.metric - 3).all()
    assert early.metric[9] > lots.metric[9] + 15  # q = 1: a third leaves at each exit, as the videos need
    assert early.metric[9] > np.interp(early.gflops[9], fixed.gflops, fixed.metric) + 15


def test_default_sweep_goes_from_the_cheapest_exit_to_the_full_cost(split, metric):
    curve = early_exit_curve(split[0], split[0], COST, metric, criterion="entropy")
    assert curve.gflops[0] < 1.2
    assert curve.gflops[-1] > 3.8
    assert curve.q.tolist() == list(SWEEP)
    np.testing.assert_allclose(curve.shares.sum(axis=1), 1)


def test_fixed_exits_are_the_exits(split, metric):
    curve = fixed_exit_curve(split[0], COST, metric)
    assert curve.gflops.tolist() == COST.tolist()
    assert curve.shares.tolist() == np.eye(3).tolist()
    assert curve.metric.tolist() == [metric(split[0][:, k]) for k in range(3)]
    assert curve.q is None


def test_random_exits_are_seeded_and_average_over_draws(split, metric):
    half = ExitCurve("half", np.array([2.5]), np.array([0.0]), np.array([[0.5, 0.0, 0.5]]))
    one, same, other = (
        random_exit_curve(half, split[0], COST, metric, seed=seed, num_draws=2).metric[0]
        for seed in (0, 0, 1)
    )
    assert one == same != other
    many = random_exit_curve(half, split[0], COST, metric, num_draws=100).metric[0]
    expected = (metric(split[0][:, 0]) + metric(split[0][:, 2])) / 2
    assert many == pytest.approx(expected, abs=1)


def test_costs_of_another_model_are_refused(split, metric):
    with pytest.raises(UserError, match="costs of 2 exits for logits of 3"):
        fixed_exit_curve(split[0], COST[:2], metric)


def test_csv_holds_every_point(tmp_path, split, metric):
    early = early_exit_curve(split[0], split[0], COST, metric, criterion="confidence", qs=(0.5, 1.0))
    path = tmp_path / "curve.csv"
    write_curve_csv(path, [early, fixed_exit_curve(split[0], COST, metric)], metric_name="top1")
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["curve", "q", "gflops", "top1", "share_0", "share_1", "share_2"]
    assert [row["q"] for row in rows] == ["0.5", "1.0", "", "", ""]
    assert {row["curve"] for row in rows} == {"early exit (confidence)", "fixed depth"}
    assert [float(row["gflops"]) for row in rows] == [*early.gflops, *COST]
    assert os.listdir(tmp_path) == ["curve.csv"]


def test_csv_that_fails_half_way_keeps_the_old_file(tmp_path, split, metric):
    path = tmp_path / "curve.csv"
    path.write_text("old")
    good = fixed_exit_curve(split[0], COST, metric)
    broken = ExitCurve("broken", good.gflops, good.metric[:1], good.shares)
    with pytest.raises(ValueError, match="zip"):
        write_curve_csv(path, [good, broken], metric_name="top1")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["curve.csv"]


def test_csv_in_an_impossible_place_is_one_line(tmp_path, split, metric):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write the curve to .*give another place"):
        write_curve_csv(
            tmp_path / "file" / "curve.csv", [fixed_exit_curve(split[0], COST, metric)], metric_name="top1"
        )

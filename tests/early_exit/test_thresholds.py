import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adafocus_jax.early_exit.criteria import CRITERIA, exit_scores, register_criterion
from adafocus_jax.early_exit.thresholds import (
    EVERYBODY,
    NOBODY,
    ExitPolicy,
    assign_exits,
    exit_shares,
    midway_thresholds,
    policies_from_json,
    policies_to_json,
    solve_policy,
    solve_thresholds,
)
from adafocus_jax.errors import UserError

POINTS = range(19)
qs = st.floats(0.01, 100)
score_tables = st.tuples(st.integers(1, 40), st.integers(2, 6), st.integers(0, 2**31))


def make_scores(size):
    videos, exits, seed = size
    return np.random.default_rng(seed).standard_normal((videos, exits)).astype(np.float32)


@pytest.mark.parametrize("criterion", ["confidence", "entropy"])
@pytest.mark.parametrize("point", POINTS)
def test_golden_thresholds(golden, criterion, point):
    scores = exit_scores(golden["exit_calibration_logits"], criterion)
    thresholds = solve_thresholds(scores, golden["exit_ratios_p"][point])
    np.testing.assert_allclose(thresholds, golden[f"exit_{criterion}_thresholds"][point], rtol=1e-5)


@pytest.mark.parametrize("criterion", ["confidence", "entropy"])
@pytest.mark.parametrize("point", POINTS)
def test_golden_exits(golden, criterion, point):
    policy = solve_policy(
        golden["exit_calibration_logits"],
        golden["exit_stage_gflops"],
        golden["exit_ratios_p"][point],
        criterion=criterion,
        calibration_split="train",
    )
    logits, labels = golden["exit_test_logits"], golden["exit_test_labels"]
    exits = policy.assign(logits)
    shares = np.bincount(exits, minlength=logits.shape[1]) / len(logits)
    np.testing.assert_allclose(shares, golden[f"exit_{criterion}_ratios"][point], atol=1e-6)
    cost = golden["exit_stage_gflops"][exits].mean()
    np.testing.assert_allclose(cost, golden[f"exit_{criterion}_gflops"][point], rtol=1e-6)
    top1 = 100 * np.mean(logits[np.arange(len(exits)), exits].argmax(-1) == labels)
    np.testing.assert_allclose(top1, golden[f"exit_{criterion}_top1"][point], rtol=1e-6)


@settings(max_examples=60)
@given(qs, st.integers(2, 20))
def test_shares_are_a_normalised_geometric_series(q, num_exits):
    shares = exit_shares(q, num_exits)
    assert shares.sum() == pytest.approx(1, abs=1e-5)
    powers = np.array([q**k for k in range(num_exits)])
    np.testing.assert_allclose(shares, powers / powers.sum(), rtol=1e-4)


@pytest.mark.parametrize("q", [1e-300, 1e300])
def test_extreme_q_sends_all_to_one_end(q):
    expected = [1, 0, 0] if q < 1 else [0, 0, 1]
    assert exit_shares(q, 3).tolist() == expected


@settings(max_examples=80)
@given(score_tables, qs)
def test_calibration_videos_leave_in_the_asked_shares(size, q):
    scores = make_scores(size)  # no two scores are equal
    exits = assign_exits(scores, solve_thresholds(scores, q))
    counts = np.bincount(exits, minlength=scores.shape[1])
    asked = np.floor(np.float32(len(scores)) * exit_shares(q, scores.shape[1])).astype(int)
    np.testing.assert_array_equal(counts[:-1], asked[:-1])


@settings(max_examples=60)
@given(score_tables, qs)
def test_every_exit_takes_the_most_confident_of_those_left(size, q):
    scores = make_scores(size)
    exits = assign_exits(scores, solve_thresholds(scores, q))
    for k in range(scores.shape[1] - 1):
        leaving, staying = scores[exits == k, k], scores[exits > k, k]
        assert not len(leaving) or not len(staying) or leaving.min() > staying.max()


@settings(max_examples=80)
@given(score_tables, qs, st.booleans())
def test_midway_thresholds_keep_the_exits_and_stay_clear_of_every_score(size, q, tied):
    scores = make_scores(size)
    if tied:
        scores = scores.round()
    thresholds = solve_thresholds(scores, q)
    midway = midway_thresholds(scores, thresholds)
    exits = assign_exits(scores, thresholds)
    np.testing.assert_array_equal(assign_exits(scores, midway), exits)
    for k in range(scores.shape[1] - 1):
        leaving, staying = scores[exits == k, k], scores[exits > k, k]
        if len(leaving) and len(staying):
            assert midway[k] == pytest.approx((leaving.min() + staying.max()) / 2, abs=1e-6)


@settings(max_examples=40)
@given(st.sampled_from(sorted(CRITERIA)), st.integers(0, 2**31), st.integers(2, 6))
def test_a_score_depends_on_its_video_and_the_exits_so_far_alone(criterion, seed, exits):
    logits = 3 * np.random.default_rng(seed).standard_normal((7, exits, 5)).astype(np.float32)
    scores = exit_scores(logits, criterion)
    np.testing.assert_array_equal(exit_scores(logits[2:3], criterion)[0], scores[2])
    np.testing.assert_array_equal(exit_scores(logits[:, :2], criterion), scores[:, :2])


@settings(max_examples=40)
@given(st.sampled_from(sorted(CRITERIA)), st.integers(0, 2**31), qs)
def test_every_criterion_can_be_solved_for_any_share(criterion, seed, q):
    logits = 3 * np.random.default_rng(seed).standard_normal((50, 4, 5)).astype(np.float32)
    policy = solve_policy(logits, np.arange(1.0, 5), q, criterion=criterion, calibration_split="train")
    asked = np.floor(np.float32(50) * exit_shares(q, 4))[:-1]
    np.testing.assert_array_equal(np.bincount(policy.assign(logits), minlength=4)[:-1], asked)
    np.testing.assert_allclose(policy.exit_shares, np.bincount(policy.assign(logits), minlength=4) / 50)


def test_patience_counts_agreeing_exits_and_then_their_probability():
    predicted = np.array([2, 1, 1, 1, 0, 1])
    logits = np.eye(3, dtype=np.float32)[predicted] * np.float32(np.log(2))
    probability = 0.5  # 2 of 2 + 1 + 1
    expected = np.array([1, 1, 2, 3, 1, 1]) + probability
    np.testing.assert_allclose(exit_scores(logits[None], "patience"), [expected], rtol=1e-6)


def test_margin_is_the_log_odds_of_the_leading_classes():
    logits = np.log(np.array([[[0.6, 0.1, 0.3], [0.2, 0.5, 0.3]]]))
    np.testing.assert_allclose(exit_scores(logits, "margin"), [[np.log(2), np.log(5 / 3)]], rtol=1e-6)


def test_a_criterion_of_ones_own_is_solved_and_stored():
    def agreement(logits):
        return (logits[:, -1] * logits[:, 0]).sum(axis=-1)

    register_criterion("agreement", agreement)
    try:
        logits = np.random.default_rng(0).standard_normal((30, 3, 4)).astype(np.float32)
        policy = solve_policy(logits, np.arange(1.0, 4), 1.0, criterion="agreement", calibration_split="val")
        assert policies_from_json(policies_to_json([policy])) == (policy,)
        with pytest.raises(UserError, match="'margin' is registered already"):
            register_criterion("margin", agreement)
    finally:
        del CRITERIA["agreement"]


def test_policies_of_earlier_versions_serve_with_the_authors_thresholds():
    policy = ExitPolicy("entropy", (0.5, EVERYBODY), 0.5, "train", 10, 0.7)
    assert policy.serving == policy.thresholds
    fields = dataclasses.asdict(policy)
    del fields["serving_thresholds"], fields["exit_shares"]
    assert policies_from_json(json.dumps([fields])) == (policy,)


def test_thresholds_by_hand():
    scores = np.array([[5, 0, 0], [4, 9, 0], [3, 8, 0], [2, 7, 0]], np.float32)
    assert solve_thresholds(scores, 1.0).tolist() == [5, 9, EVERYBODY]  # floor(4/3) = 1 at each
    assert solve_thresholds(scores[:2], 1.0).tolist() == [NOBODY, NOBODY, EVERYBODY]  # floor(2/3) = 0


def test_equal_scores_leave_in_the_order_given():
    scores = np.array([[1, 0, 0], [1, 2, 0], [1, 3, 0]], np.float32)  # video 0 leaves first, then 2
    assert solve_thresholds(scores, 1.0).tolist() == [1, 3, EVERYBODY]


def test_the_first_exit_that_is_reached_wins_and_equal_is_reached():
    scores = np.array([[0.5, 1, 1], [0.4, 0.7, 1], [0, 0, -5]], np.float32)
    assert assign_exits(scores, np.array([0.5, 0.7, EVERYBODY])).tolist() == [0, 1, 2]
    assert assign_exits(scores, np.array([NOBODY, NOBODY, NOBODY])).tolist() == [2, 2, 2]
    assert assign_exits(scores[:0], np.zeros(3)).shape == (0,)


def test_entropy_of_certain_and_uniform_rows():
    logits = np.array([[[0.0, 0, 0, 0], [500, 0, 0, 0], [-1e30, 0, -1e30, 0]]])
    np.testing.assert_allclose(exit_scores(logits, "entropy"), [[-np.log(4), 0, -np.log(2)]], atol=1e-6)


def test_scores_are_float32_whatever_the_logits():
    for dtype in (np.float16, np.float32, np.float64):
        assert exit_scores(np.zeros((2, 3, 4), dtype), "confidence").dtype == np.float32


def test_policy_survives_json_bit_for_bit():
    logits = np.random.default_rng(0).standard_normal((50, 5, 7)).astype(np.float32)
    policy = solve_policy(logits, np.arange(1.0, 6), 0.3, criterion="entropy", calibration_split="val")
    (again,) = policies_from_json(policies_to_json([policy]))
    assert again == policy
    assert (again.calibration_split, again.num_calibration, again.q) == ("val", 50, 0.3)
    np.testing.assert_array_equal(again.assign(logits), policy.assign(logits))


@pytest.mark.parametrize(
    "change",
    [
        lambda fields: fields.pop("q"),
        lambda fields: fields.update(colour="red"),
        lambda fields: fields.update(thresholds=None),
        lambda fields: fields.update(thresholds=["high", 1]),
        lambda fields: fields.update(criterion="luck"),
    ],
)
def test_a_broken_policy_file_is_one_line(change):
    fields = dataclasses.asdict(ExitPolicy("confidence", (1.0, EVERYBODY), 0.5, "train", 10, 0.7))
    change(fields)
    for text in (json.dumps([fields]), "[1]", "3", "{", ""):
        with pytest.raises(UserError, match="not stored early-exit policies") as error:
            policies_from_json(text)
        assert "\n" not in str(error.value)


GOOD = np.zeros((2, 3), np.float32)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: exit_scores(np.zeros((2, 3, 4)), "luck"), "'luck': choose from confidence, entropy, margin"),
        (lambda: exit_scores(np.zeros((2, 3, 1)), "margin"), "compares two classes"),
        (lambda: ExitPolicy("entropy", (1, 0), 0.5, "train", 1, 1, (1,)), "two or more"),
        (lambda: exit_scores(np.zeros((2, 1, 4)), "entropy"), "2 exits or more"),
        (lambda: exit_scores(np.zeros((2, 4)), "entropy"), "2 exits or more"),
        (lambda: exit_scores(np.full((2, 3, 4), np.nan), "confidence"), "video 0, exit 0"),
        (lambda: exit_scores(np.full((2, 3, 4), np.inf), "entropy"), "not finite"),
        (lambda: solve_thresholds(GOOD[:0], 0.5), "one video or more"),
        (lambda: solve_thresholds(GOOD[:, :1], 0.5), "2 or more"),
        (lambda: solve_thresholds(GOOD * np.nan, 0.5), "not finite"),
        (lambda: exit_shares(0, 3), "q = 0"),
        (lambda: exit_shares(float("nan"), 3), "q = nan"),
        (lambda: assign_exits(GOOD, np.zeros(2)), "one per exit"),
        (lambda: assign_exits(GOOD * np.nan, np.zeros(3)), "not finite"),
        (lambda: ExitPolicy("luck", (1, 0), 0.5, "train", 1, 1), "choose from"),
        (lambda: ExitPolicy("entropy", (1,), 0.5, "train", 1, 1), "two or more"),
        (lambda: ExitPolicy("entropy", (1, float("nan")), 0.5, "train", 1, 1), "finite"),
    ],
)
def test_bad_input_is_one_line(call, message):
    with pytest.raises(UserError, match=message) as error:
        call()
    assert "\n" not in str(error.value)

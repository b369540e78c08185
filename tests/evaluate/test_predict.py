import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adafocus_jax.early_exit import CRITERIA, choose_policy
from adafocus_jax.errors import UserError
from adafocus_jax.evaluate.evaluators import classification, per_exit
from adafocus_jax.evaluate.exits import (
    solve_policies,
    store_policies,
    stored_policies,
    sweep_exits,
    usable_exits,
)
from adafocus_jax.evaluate.predict import Predictions, average_crops, make_predict_function, predict_split
from adafocus_jax.models import create_model, init_variables
from adafocus_jax.types import VideoBatch

TINY = {
    "num_glance": 4,
    "num_candidates": 4,
    "num_focus": 2,
    "image_size": 32,
    "glance_size": 16,
    "patch_size": 16,
    "policy_hidden": 4,
    "temporal_hidden": 4,
    "classifier_hidden": 8,
}


@pytest.fixture(scope="module")
def model():
    return create_model("uni_adafocus_tiny", num_classes=3, **TINY)


@pytest.fixture(scope="module")
def variables(model):
    return init_variables(model, jax.random.key(0))


def batches(count: int, size: int):
    """``count`` videos in batches of ``size``, the last one padded."""
    frames = np.random.default_rng(0).integers(0, 256, (count, 4, 32, 32, 3), dtype=np.uint8)
    for start in range(0, count, size):
        index = np.arange(start, start + size)
        mask = index < count
        index = np.where(mask, index, 0).astype(np.int32)
        labels = np.stack([index % 3, np.full_like(index, -1)], axis=1)
        yield VideoBatch(frames=frames[index], labels=labels, mask=mask, index=index)


def test_batch_size_devices_and_padding_change_nothing(model, variables):
    """Ten videos over four simulated devices, in batches of 4, 8 and 12."""
    assert jax.local_device_count() == 4
    predict = make_predict_function(model, variables)
    runs = [predict_split(predict, batches(10, size)) for size in (4, 8, 12)]
    frames = np.concatenate([b.frames[b.mask] for b in batches(10, 4)])
    direct = jax.jit(lambda v, f: model.apply(v, VideoBatch(frames=f)))(variables, frames)
    for found in runs:
        np.testing.assert_array_equal(found.index, np.arange(10))
        np.testing.assert_array_equal(found.labels[:, 0], np.arange(10) % 3)
        np.testing.assert_array_equal(found.frame_indices, direct.frame_indices)
        np.testing.assert_allclose(found.exit_logits, direct.exit_logits, rtol=1e-4, atol=1e-5)


def test_random_controls_are_seeded(model, variables):
    control = model.clone(spatial="random", temporal="random")
    first, again, other = (
        predict_split(make_predict_function(control, variables, seed=seed), batches(8, 4))
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first.boxes, again.boxes)
    assert np.any(first.boxes != other.boxes)


def test_random_controls_do_not_depend_on_the_number_of_processes(model, variables, monkeypatch):
    predict = make_predict_function(model.clone(spatial="random", temporal="random"), variables)
    (whole,) = batches(8, 8)
    expected = predict(whole, 0)
    for process, half in enumerate(batches(8, 4)):
        monkeypatch.setattr(jax, "process_index", lambda process=process: process)
        found = predict(half, 0)
        rows = slice(4 * process, 4 * process + 4)
        np.testing.assert_array_equal(found.boxes, expected.boxes[rows])
        np.testing.assert_array_equal(found.frame_indices, expected.frame_indices[rows])


def test_bad_batches_and_bad_checkpoints_are_named(model, variables):
    predict = make_predict_function(model, variables)
    with pytest.raises(
        UserError, match="batch of 3 videos does not divide over 4 devices: take a multiple of 4"
    ):
        predict_split(predict, batches(3, 3))
    with pytest.raises(UserError, match="holds no videos"):
        predict_split(predict, [])
    broken = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), variables)
    with pytest.raises(UserError, match="record 0 are not finite"):
        predict_split(make_predict_function(model, broken), batches(4, 4))


def made_predictions(count: int, seed: int) -> Predictions:
    """Five exits (two of the glance, three of focus frames), each surer and better than the last."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(4, size=(count, 1)).astype(np.int32)
    signal = np.eye(4)[labels[:, 0]][:, None, :] * np.linspace(0.5, 4, 5)[None, :, None]
    return Predictions(
        index=np.arange(count, dtype=np.int32),
        labels=labels,
        exit_logits=(signal + rng.standard_normal((count, 5, 4))).astype(np.float32),
        frame_weights=np.full((count, 2), 0.5, np.float32),
        glance_indices=np.zeros((count, 2), np.int32),
        frame_indices=np.zeros((count, 2), np.int32),
        boxes=np.zeros((count, 2, 4), np.float32),
    )


COSTS = np.array([1.0, 2.0, 2.5, 4.0, 6.0])


def test_scores_by_name():
    found = made_predictions(300, 0)
    scores = dict(classification(found))
    assert set(scores) == {"top1", "top5", "mAP"}
    assert scores["top5"] == 100
    exits = list(dict(per_exit(found)).values())
    assert len(exits) == 5
    assert exits[-1] == scores["top1"] > exits[0]


def test_only_the_end_of_the_glance_and_the_focus_frames_are_exits():
    assert usable_exits(made_predictions(3, 0)).shape == (3, 3, 4)


def test_sweep_and_stored_policy(tmp_path):
    calibration, test = made_predictions(400, 0), made_predictions(300, 1)

    def top1(logits):
        return 100 * float(np.mean(logits.argmax(axis=1) == test.labels[:, 0]))

    curves = sweep_exits(calibration, test, COSTS, top1)
    by_name = {curve.name: curve for curve in curves}
    assert len(by_name) == len(CRITERIA) + 2  # random and fixed exits beside them
    for curve in curves:
        assert COSTS[2] <= curve.gflops.min() <= curve.gflops.max() <= COSTS[4]
    policies = solve_policies(calibration, COSTS, "train")
    assert stored_policies(tmp_path) == ()
    store_policies(tmp_path, policies)
    assert stored_policies(tmp_path) == policies
    assert {policy.calibration_split for policy in policies} == {"train"}
    for criterion in ("confidence", "entropy"):
        policy = choose_policy(policies, criterion, 0.8)
        spent = COSTS[2:][policy.assign(usable_exits(calibration))].mean()
        assert policy.cost_frac == pytest.approx(spent / COSTS[-1])
        assert policy.criterion == criterion
        dearer = [p for p in policies if p.criterion == criterion and p.cost_frac > policy.cost_frac]
        assert policy.cost_frac <= 0.8 < min(p.cost_frac for p in dearer)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["SHA256SUMS", "early_exit.json"]


@pytest.mark.parametrize(("budget", "message"), [(0.0, "above 0 and up to 1"), (0.1, "already takes 0.4")])
def test_impossible_budgets_are_refused(budget, message):
    with pytest.raises(UserError, match=message):
        choose_policy(solve_policies(made_predictions(50, 0), COSTS, "train"), budget_frac=budget)


def test_crops_average_their_logits():
    first, second = made_predictions(5, 0), made_predictions(5, 1)
    both = average_crops([first, second])
    np.testing.assert_allclose(both.exit_logits, (first.exit_logits + second.exit_logits) / 2, rtol=1e-6)
    assert both.boxes is first.boxes

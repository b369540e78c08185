import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.errors import ScopeParamShapeError
from hypothesis import given, settings
from hypothesis import strategies as st

from adafocus_jax.errors import UserError
from adafocus_jax.models import init_variables
from adafocus_jax.train.optimizer import make_optimizer
from adafocus_jax.train.state import create_state, run_keys
from adafocus_jax.train.step import (
    box_steps_px,
    check_batch_size,
    fetch_scalars,
    make_train_step,
    policy_statistics,
)
from adafocus_jax.types import ModelOutput

BOTH = pytest.mark.parametrize("parallel", ["pmap", "shard_map"])


@functools.cache
def make(toy, norm_axis="batch", parallel="pmap", devices=4, norm=True, sgd=None, **options):
    """A fresh state on the host, and the step; compiled once for all tests."""
    model = toy.Toy(norm_axis=norm_axis, norm=norm)
    params = init_variables(model, run_keys(0)[0])["params"]
    optimizer = make_optimizer(sgd or toy.SGD, params, num_steps=10, batch_size=toy.BATCH)
    devices = jax.devices()[:devices]
    step = make_train_step(model, optimizer, toy.loss, seed=0, parallel=parallel, devices=devices, **options)
    return jax.device_get(create_state(model, optimizer.transform, seed=0)), step


def run(start, step, batches):
    state = step.put_state(start)
    for batch in batches:
        state, scalars = step.run(state, step.put_batch(batch))
    return step.get_state(state), fetch_scalars(scalars)


def assert_close(tree, other, **tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), tree, other)


@BOTH
def test_four_devices_give_the_update_of_one_on_the_same_batch(toy, parallel):
    batches = [toy.batch(number) for number in range(3)]
    one = run(*make(toy, devices=1), batches)
    four = run(*make(toy, parallel=parallel), batches)
    assert_close(four, one, rtol=1e-5, atol=1e-6)


@BOTH
def test_norm_per_device_averages_running_statistics_over_devices(toy, parallel):
    batch = toy.batch(0)
    state, _ = run(*make(toy, norm_axis=None, parallel=parallel), [batch])
    shares = [{name: x[part : part + 2] for name, x in batch.items()} for part in range(0, 8, 2)]
    # Dropout comes after the norm, so each share alone has the same statistics.
    alone = [run(*make(toy, norm_axis=None, devices=1), [share])[0].batch_stats for share in shares]
    assert_close(state.batch_stats, jax.tree.map(lambda *x: np.mean(x, axis=0), *alone), rtol=1e-5)
    assert not np.allclose(alone[0]["norm"]["mean"], alone[1]["norm"]["mean"])


def test_all_devices_hold_the_same_state_afterwards(toy):
    start, step = make(toy, norm_axis=None)
    state, _ = step.run(step.put_state(start), step.put_batch(toy.batch(0)))
    for leaf in jax.tree.leaves(state):
        for copy in np.asarray(leaf)[1:]:
            np.testing.assert_array_equal(copy, np.asarray(leaf)[0])


@BOTH
def test_only_the_batch_moves_and_the_state_is_donated(toy, parallel):
    start, step = make(toy, parallel=parallel)
    before = jax.tree.map(np.copy, start)
    state, batch = step.put_state(start), step.put_batch(toy.batch(0))
    assert batch.frames.dtype == jnp.uint8
    assert batch.labels is batch.index is batch.mask is None
    with jax.transfer_guard("disallow"):
        following, scalars = step.run(state, batch)
        following, scalars = step.run(following, batch)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state))
    assert len(jax.tree.leaves(following)[0].sharding.device_set) == 4
    assert fetch_scalars(scalars)["learning_rate"] == pytest.approx(toy.SGD.learning_rate)
    assert_close(start, before, rtol=0)  # the source of what was donated


def test_randomness_depends_on_seed_and_step_alone(toy):
    start, step = make(toy)
    batch = toy.batch(0)
    once, again = (run(start, step, [batch])[1]["loss/exits"] for _ in range(2))
    later = run(start.replace(step=np.asarray(5, np.int32)), step, [batch])[1]["loss/exits"]
    assert once == again != later


@BOTH
def test_what_lower_compiles_is_what_runs(toy, parallel):
    start, step = make(toy, parallel=parallel)
    state, batch = step.put_state(start), step.put_batch(toy.batch(0))
    compiled = []

    def listen(event, *_, **__):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(event)

    jax.clear_caches()
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        step.lower(jax.eval_shape(lambda: start), toy.shapes()).compile()
        assert len(compiled) == 1
        state, _ = step.run(state, batch)
        step.run(state, batch)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert len(compiled) == 1


@BOTH
def test_shapes_that_do_not_fit_fail_without_data(toy, parallel):
    start, step = make(toy, parallel=parallel)
    shapes = jax.eval_shape(lambda: start)
    step.lower(shapes, toy.shapes())
    with pytest.raises(ScopeParamShapeError, match="encoder"):
        step.lower(shapes, toy.shapes().replace(frames=jax.ShapeDtypeStruct((8, 4, 5, 5, 3), np.uint8)))


def test_accumulated_parts_give_the_update_of_the_whole_batch(toy):
    """Without batch norm; dropout and thresholds are drawn by a video's place in the whole batch."""
    batches = [toy.batch(number) for number in range(3)]
    whole = run(*make(toy, norm=False), batches)
    parts = run(*make(toy, norm=False, devices=2, accumulate=2), batches)
    assert_close(parts, whole, rtol=1e-5, atol=1e-6)


def test_batch_norm_sees_one_part_at_a_time(toy):
    """So that four parts on one device are four devices with a norm each; running statistics take them in turn."""
    batch = toy.batch(0)
    apart, _ = run(*make(toy, norm_axis=None), [batch])
    in_turn, _ = run(*make(toy, devices=1, accumulate=4), [batch])
    assert_close(in_turn.params, apart.params, rtol=1e-5, atol=1e-6)
    shares = [{name: x[part : part + 2] for name, x in batch.items()} for part in range(0, 8, 2)]
    start, step = make(toy, norm_axis=None, devices=1)
    expected = start.batch_stats
    for share in shares:
        expected = run(start.replace(batch_stats=expected), step, [share])[0].batch_stats
    assert_close(in_turn.batch_stats, expected, rtol=1e-5)


@BOTH
def test_a_step_that_is_not_finite_is_dropped_on_all_devices(toy, parallel):
    start, step = make(toy, parallel=parallel, skip_not_finite=True)
    state, scalars = run(start, step, [toy.batch(0, poison=0)])
    assert scalars["skipped"] == 1
    assert np.isnan(scalars["loss/exits"])
    assert_close((state.params, state.batch_stats), (start.params, start.batch_stats), rtol=0)
    assert state.step == optax.tree_utils.tree_get(state.opt_state, "count") == 1
    good = [toy.batch(0), toy.batch(1)]
    state, scalars = run(start, step, good)
    assert scalars.pop("skipped") == 0
    assert_close((state, scalars), run(*make(toy, parallel=parallel), good), rtol=1e-5, atol=1e-7)


def test_a_dropped_update_counts_for_the_schedule_and_not_for_adam(toy):
    start, step = make(toy, sgd=replace(toy.SGD, name="adamw"), skip_not_finite=True)
    state, _ = run(start, step, [toy.batch(0), toy.batch(1, poison=1)])
    counts = {
        path[-1].tuple_name: int(count)
        for path, count in optax.tree.get_all_with_path(state.opt_state, "count")
    }
    assert counts == {"ScaleByAdamState": 1, "ScaleByScheduleState": 2}


def test_frozen_parameters_stay_while_their_running_statistics_follow(toy):
    sgd = replace(toy.SGD, freeze="encoder/.*|norm/scale", clip_norm=1e-3)
    start, step = make(toy, sgd=sgd)
    state, scalars = run(start, step, [toy.batch(0), toy.batch(1)])
    same = jax.tree.map(np.array_equal, state.params, start.params)
    assert same == {
        "encoder": {"kernel": True, "bias": True},
        "norm": {"scale": True, "bias": False},
        "policy": {"kernel": False, "bias": False},
        "head": {"kernel": False, "bias": False},
    }
    assert not np.array_equal(state.batch_stats["norm"]["mean"], start.batch_stats["norm"]["mean"])
    # They count in no norm of the gradient, and so in no clipping.
    assert scalars["grad_norm"] < run(*make(toy), [toy.batch(0), toy.batch(1)])[1]["grad_norm"]


def test_unknown_parallel_is_refused(toy):
    with pytest.raises(UserError, match="'threads': choose pmap or shard_map"):
        make(toy, parallel="threads")


def test_a_batch_that_devices_do_not_divide_names_the_nearest_sizes():
    with pytest.raises(UserError, match="a batch of 30 does not divide over 4 devices: take 28 or 32"):
        check_batch_size(30, 4)
    with pytest.raises(UserError, match=r"take 4$"):
        check_batch_size(3, 4)
    with pytest.raises(UserError, match="over 4 devices in 3 parts each: take 24 or 36"):
        check_batch_size(32, 4, accumulate=3)


@settings(max_examples=50)
@given(st.integers(0, 300), st.integers(1, 64))
def test_the_sizes_it_names_work(size, devices):
    try:
        check_batch_size(size, devices)
    except UserError as error:
        for named in str(error).split(": take ")[1].split(" or "):
            check_batch_size(int(named), devices)
            assert abs(int(named) - size) <= devices


def test_policy_statistics_in_closed_form():
    weights = jnp.array([[0.25, 0.25, 0.25, 0.25], [1.0, 0, 0, 0], [0.5, 0.5, 0, 0]])
    actions = jnp.array([0.001, 0.5, 0.995, 0.01])[None, None]
    boxes = jnp.array([[[0.0, 0, 10, 20], [20, 15, 30, 40]]])  # centres (5, 10), (35, 35)
    rest = dict.fromkeys(ModelOutput.__dataclass_fields__)
    out = ModelOutput(**{**rest, "frame_weights": weights, "actions": actions, "boxes": boxes})
    statistics = {name: float(value) for name, value in policy_statistics(out).items()}
    assert statistics == pytest.approx(
        {
            "weight_entropy": 0.5,
            "box_height_px": 20,
            "box_width_px": 30,
            "box_step_px": np.hypot(30, 25),
            "saturated_frac": 0.5,
        }
    )


@pytest.mark.parametrize("step", [(3.0, 4.0), (0.0, 0.0), (-5.0, 12.0)])
def test_boxes_that_move_evenly_step_by_their_pace_whatever_their_size(step):
    sides = jnp.array([20.0, 10, 30, 14])
    centres = 50 + jnp.arange(4.0)[:, None] * jnp.array(step)[None]
    boxes = jnp.concatenate([centres - sides[:, None] / 2, jnp.stack([sides, sides], axis=1)], axis=1)
    np.testing.assert_allclose(box_steps_px(boxes[None]), [[np.hypot(*step)] * 3], rtol=1e-6)


def test_a_single_box_does_not_move():
    np.testing.assert_array_equal(box_steps_px(jnp.ones((3, 1, 4))), np.zeros((3, 1)))


@BOTH
def test_multiply_adds_are_those_of_one_device(toy, parallel):
    """Three dense layers: forward, and backward to kernels and, but for the first, to inputs; two glance frames."""
    start, step = make(toy, parallel=parallel)
    layers = 48 * 6 * 2 + 6 * 5 * 3 + 6 * 3 * 3
    assert step.count_macs(jax.eval_shape(lambda: start), toy.shapes()) == toy.BATCH // 4 * 2 * layers

import inspect
import logging
from dataclasses import replace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.serialization import to_state_dict
from hypothesis import given, settings
from hypothesis import strategies as st

from adafocus_jax.errors import UserError
from adafocus_jax.train.optimizer import (
    OPTIMIZERS,
    OptimizerOptions,
    ParamGroup,
    assign_groups,
    cosine_with_warmup,
    make_optimizer,
    register_optimizer,
    rescaled_rate,
    trainable,
)

GROUPS = (ParamGroup("encoder/.*", 0.5), ParamGroup("classifier/.*", 20.0), ParamGroup(".*"))


def parameters():
    rng = np.random.default_rng(0)
    shapes = {"encoder": {"kernel": (3, 4), "bias": (4,)}, "classifier": {"kernel": (4, 2)}, "scale": (5,)}
    return jax.tree.map(
        lambda shape: rng.standard_normal(shape).astype(np.float32),
        shapes,
        is_leaf=lambda x: type(x) is tuple,
    )


def gradients(step):
    rng = np.random.default_rng(100 + step)
    return jax.tree.map(lambda x: rng.standard_normal(x.shape).astype(np.float32), parameters())


def updated(options, steps, *, num_steps=None, batch_size=None):
    """Parameters after each step."""
    params = parameters()
    optimizer = make_optimizer(
        options, params, num_steps=num_steps or steps, batch_size=batch_size or options.reference_batch_size
    )
    state, history = optimizer.transform.init(params), []
    for step in range(steps):
        updates, state = optimizer.transform.update(gradients(step), state, params)
        params = jax.tree.map(jnp.add, params, updates)
        history.append(params)
    return history


@pytest.mark.parametrize("clip_norm", [None, 2.0])
def test_equals_torch_sgd_with_groups(clip_norm):
    torch = pytest.importorskip("torch")
    options = OptimizerOptions(0.1, 16, GROUPS, weight_decay=0.03, clip_norm=clip_norm, warmup_frac=0.4)
    ours = updated(options, 5, batch_size=8)
    tensors = jax.tree.map(lambda x: torch.nn.Parameter(torch.from_numpy(x.copy())), parameters())
    groups = [
        {"params": jax.tree.leaves(tensors["encoder"]), "factor": 0.5},
        {"params": jax.tree.leaves(tensors["classifier"]), "factor": 20.0},
        {"params": [tensors["scale"]], "factor": 1.0},
    ]
    sgd = torch.optim.SGD(groups, lr=0.1, momentum=0.9, weight_decay=0.03)
    rates = [0.025, 0.05, 0.05, 0.05 * 0.75, 0.05 * 0.25]  # half the batch; 2 of 5 steps of warm-up; cosine
    for step, rate in enumerate(rates):
        for tensor, gradient in zip(jax.tree.leaves(tensors), jax.tree.leaves(gradients(step)), strict=True):
            tensor.grad = torch.from_numpy(gradient)
        if clip_norm:
            torch.nn.utils.clip_grad_norm_(jax.tree.leaves(tensors), clip_norm)
        for group in sgd.param_groups:
            group["lr"] = rate * group["factor"]
        sgd.step()
        for tensor, param in zip(jax.tree.leaves(tensors), jax.tree.leaves(ours[step]), strict=True):
            np.testing.assert_allclose(param, tensor.detach().numpy(), rtol=1e-5, atol=1e-6)


def test_a_delayed_group_waits_for_its_share_of_the_steps():
    groups = (ParamGroup("encoder/.*", delay_frac=0.5), ParamGroup(".*"))
    history = updated(OptimizerOptions(0.1, 4, groups), 4)
    moved = [
        not np.array_equal(params["encoder"]["bias"], parameters()["encoder"]["bias"]) for params in history
    ]
    assert moved == [False, False, True, True]
    assert not np.array_equal(history[0]["scale"], parameters()["scale"])


def test_the_first_group_that_matches_in_full_takes_a_parameter():
    groups = [ParamGroup("encoder/kernel"), ParamGroup("encoder/.*"), ParamGroup(".*")]
    assigned = assign_groups(parameters(), groups)
    assert assigned == {"encoder": {"kernel": 0, "bias": 1}, "classifier": {"kernel": 2}, "scale": 2}


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (("encoder/.*", "classifier/.*"), "no optimizer group matches parameter scale"),
        (("encod", ".*"), "'encod' gets no parameter"),  # not in full
        ((".*", "encoder/.*"), "'encoder/.*' gets no parameter"),  # all are taken before
        (("(", ".*"), "'[(]' is not a regular expression"),
    ],
)
def test_groups_that_do_not_cover_exactly_are_refused(patterns, message):
    with pytest.raises(UserError, match=message):
        assign_groups(parameters(), [ParamGroup(pattern) for pattern in patterns])


def test_frozen_parameters_are_neither_updated_nor_decayed():
    options = OptimizerOptions(0.1, 4, GROUPS, weight_decay=0.5, freeze="encoder/kernel|scale")
    (after,) = updated(options, 1)
    moved = jax.tree.map(lambda a, b: not np.array_equal(a, b), after, parameters())
    assert moved == {
        "encoder": {"kernel": False, "bias": True},
        "classifier": {"kernel": True},
        "scale": False,
    }


@pytest.mark.parametrize(("freeze", "what"), [("encod", "no"), (".*", "every"), ("(", "is not a regular")])
def test_freezing_nothing_or_everything_is_refused(freeze, what):
    with pytest.raises(
        UserError, match=f"{what} .*expression|matches {what} parameter: .*classifier, encoder, scale"
    ):
        trainable(parameters(), freeze)


@settings(max_examples=30)
@given(st.integers(1, 60), st.floats(0, 1))
def test_schedule_rises_to_one_then_falls_to_zero(num_steps, warmup):
    steps = jnp.arange(64)  # one shape, compiled once
    factors = np.asarray(cosine_with_warmup(steps, num_steps, warmup))[: num_steps + 1]
    assert ((factors >= 0) & (factors <= 1)).all()
    top = round(warmup * num_steps)
    assert (np.diff(factors[:top]) > 0).all()
    assert (np.diff(factors[top:]) <= 0).all()
    assert factors[-1] == pytest.approx(0 if top < num_steps else 1, abs=1e-6)


def test_the_rate_is_rescaled_to_the_batch_and_the_log_says_so(caplog):
    caplog.set_level(logging.INFO)
    options = OptimizerOptions(0.002, 32, GROUPS)
    assert rescaled_rate(options, 32) == 0.002
    assert not caplog.messages
    assert rescaled_rate(options, 8) == pytest.approx(0.0005)
    assert caplog.messages == [
        "learning rate 0.002 belongs to a batch of 32: rescaled linearly to 0.0005 for a batch of 8"
    ]


@pytest.mark.parametrize("name", sorted(OPTIMIZERS.keys() - {"sgd"}))
def test_another_optimizer_steps_as_optax_by_rate_and_factor(name):
    options = OptimizerOptions(0.1, 4, GROUPS, name=name, weight_decay=0.03, freeze="encoder/bias")
    (after,) = updated(options, 1)
    known = inspect.signature(OPTIMIZERS[name]).parameters
    given = {key: getattr(options, key) for key in ("momentum", "weight_decay") if key in known}
    params, grads = parameters(), gradients(0)
    if "weight_decay" not in known:
        grads = jax.tree.map(lambda g, p: g + 0.03 * p, grads, params)
    theirs = OPTIMIZERS[name](1.0, **given)
    with jax.numpy_dtype_promotion("standard"):  # optax mixes integers and floats
        updates, _ = theirs.update(grads, theirs.init(params), params)
    factors = {"encoder": {"kernel": 0.5, "bias": 0.0}, "classifier": {"kernel": 20.0}, "scale": 1.0}
    expected = jax.tree.map(lambda p, u, factor: p + 0.1 * factor * u, params, updates, factors)
    chex.assert_trees_all_close(after, expected, rtol=1e-5, atol=1e-6)
    chex.assert_trees_all_equal(after["encoder"]["bias"], params["encoder"]["bias"])


def test_sgd_keeps_what_checkpoints_of_earlier_versions_hold():
    optimizer = make_optimizer(OptimizerOptions(0.1, 4, GROUPS), parameters(), num_steps=4, batch_size=4)
    state = to_state_dict(optimizer.transform.init(parameters()))
    assert {place: set(part) for place, part in state.items()} == {
        **{"0": set(), "1": set(), "2": {"trace"}, "3": {"count"}}
    }


def test_frozen_parameters_have_no_statistics():
    options = OptimizerOptions(0.1, 4, GROUPS, name="adamw", freeze="encoder/.*")
    optimizer = make_optimizer(options, parameters(), num_steps=4, batch_size=4)
    leaves = jax.tree.leaves(jax.eval_shape(optimizer.transform.init, parameters()))
    assert {leaf.shape for leaf in leaves} == {(), (4, 2), (5,)}


def test_an_argument_reaches_the_optimizer_and_a_registered_one_is_found(monkeypatch):
    monkeypatch.setattr("adafocus_jax.train.optimizer.OPTIMIZERS", dict(OPTIMIZERS))
    register_optimizer("mine", optax.adamw)
    options = OptimizerOptions(0.1, 4, GROUPS, name="mine")
    chex.assert_trees_all_equal(updated(options, 2), updated(replace(options, name="adamw"), 2))
    slower = updated(replace(options, arguments={"b1": 0.5}), 2)
    assert not np.allclose(slower[1]["scale"], updated(options, 2)[1]["scale"])
    with pytest.raises(UserError, match="optimizer 'mine' exists already"):
        register_optimizer("mine", optax.lion)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "adamm"}, "unknown optimizer 'adamm': choose one of sgd, adagrad"),
        (
            {"name": "adamw", "arguments": {"beta": 1}},
            "adamw takes no argument 'beta': choose among b1, b2, eps",
        ),
        ({"arguments": {"momentum": 1}}, "sgd takes no argument 'momentum': choose among nesterov"),
    ],
)
def test_unknown_optimizers_and_arguments_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        updated(OptimizerOptions(0.1, 4, GROUPS, **options), 1)


def test_a_schedule_of_its_own_length_does_not_depend_on_that_of_the_run():
    options = OptimizerOptions(0.1, 4, GROUPS, decay_steps=8, warmup_frac=0.25)
    short, long = updated(options, 3, num_steps=3), updated(options, 3, num_steps=30)
    chex.assert_trees_all_equal(short, long)

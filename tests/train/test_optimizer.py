import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adafocus_jax.errors import UserError
from adafocus_jax.train.optimizer import (
    OptimizerOptions,
    ParamGroup,
    assign_groups,
    cosine_with_warmup,
    make_optimizer,
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

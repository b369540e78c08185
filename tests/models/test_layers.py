from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from adafocus_jax.errors import UserError
from adafocus_jax.models.layers import (
    BatchNorm,
    Conv,
    Dense,
    DepthwiseConv,
    Dropout,
    he_fan_out,
    round_channels,
    torch_uniform,
)
from adafocus_jax.ops.platform import lowering_for


def random(seed, shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def channels_first(x):
    return np.ascontiguousarray(np.moveaxis(x, -1, 1))


# ---- batch norm


def test_batch_norm_trains_like_torch(torch, randomized, variables_of, assert_close, jit_as_for_use):
    theirs, ours = randomized(torch.nn.BatchNorm2d(6)), BatchNorm()
    variables = {name: tree["bn"] for name, tree in variables_of({"bn": theirs}).items()}

    @jit_as_for_use
    def step(variables, x, cotangent):
        def loss(params, x):
            y, updates = ours.apply({**variables, "params": params}, x, train=True, mutable=["batch_stats"])
            return jnp.vdot(y, cotangent), (y, updates)

        return jax.grad(loss, argnums=(0, 1), has_aux=True)(variables["params"], x)

    for number in range(4):
        x, cotangent = random(number, (3, 5, 4, 6)) * 3 + 7, random(-number + 9, (3, 5, 4, 6))
        (params_grad, x_grad), (y, updates) = step(variables, x, cotangent)
        variables |= updates
        x_torch = torch.tensor(channels_first(x), requires_grad=True)
        y_torch = theirs.train()(x_torch)
        theirs.zero_grad()
        (y_torch * torch.tensor(channels_first(cotangent))).sum().backward()
        assert_close(channels_first(y), y_torch.detach())
        assert_close(channels_first(x_grad), x_torch.grad, 2e-5)
        assert_close(params_grad["scale"], theirs.weight.grad)
        assert_close(params_grad["bias"], theirs.bias.grad)
        assert_close(variables["batch_stats"]["mean"], theirs.running_mean)
        assert_close(variables["batch_stats"]["var"], theirs.running_var)
    y_eval = ours.apply(variables, jnp.asarray(x), train=False)
    assert_close(channels_first(y_eval), theirs.eval()(x_torch).detach())


def test_batch_norm_of_a_distant_mean_keeps_its_digits():
    x = random(0, (4096, 1))
    variables = BatchNorm().init(jax.random.key(0), jnp.asarray(x), train=False)
    near, far = (
        BatchNorm().apply(variables, jnp.asarray(x + offset), train=True, mutable=["batch_stats"])[0]
        for offset in (np.float32(0), np.float32(4096))
    )
    np.testing.assert_allclose(far, near, atol=2e-3)


def test_batch_norm_statistics_are_float32_for_bfloat16():
    x = jnp.asarray(random(0, (8, 4)) + 100, jnp.bfloat16)
    norm = BatchNorm(dtype=jnp.bfloat16)
    variables = norm.init(jax.random.key(0), x, train=True)
    y, updates = norm.apply(variables, x, train=True, mutable=["batch_stats"])
    assert y.dtype == jnp.bfloat16
    exact = np.asarray(x, np.float32)
    np.testing.assert_allclose(updates["batch_stats"]["mean"], 0.1 * exact.mean(0), rtol=1e-6)
    np.testing.assert_allclose(updates["batch_stats"]["var"], 0.9 + 0.1 * exact.var(0, ddof=1), rtol=1e-5)


@pytest.mark.parametrize("train", [False, True])
def test_initialisation_leaves_running_statistics_alone(train):
    variables = BatchNorm(axis_name="devices").init(jax.random.key(0), jnp.ones((4, 3)) * 5, train)
    np.testing.assert_array_equal(variables["batch_stats"]["mean"], np.zeros(3))
    np.testing.assert_array_equal(variables["batch_stats"]["var"], np.ones(3))


def test_synchronised_batch_norm_is_one_device_on_the_global_batch():
    devices = jax.devices()[:4]
    x, cotangent = random(0, (8, 3, 5)) * 2 + 1, random(1, (8, 3, 5))
    variables = BatchNorm().init(jax.random.key(0), jnp.asarray(x), train=False)

    def run(norm, x, cotangent):
        def loss(x):
            y, updates = norm.apply(variables, x, train=True, mutable=["batch_stats"])
            return jnp.vdot(y, cotangent), (y, updates["batch_stats"])

        gradient, (y, statistics) = jax.grad(loss, has_aux=True)(x)
        return y, gradient, statistics

    expected = run(BatchNorm(), x, cotangent)
    synchronised = partial(run, BatchNorm(axis_name="devices"))
    sharded = jax.jit(
        jax.shard_map(
            synchronised,
            mesh=Mesh(np.array(devices), "devices"),
            in_specs=P("devices"),
            out_specs=(P("devices"), P("devices"), P()),
            check_vma=False,
        )
    )(x, cotangent)
    mapped = jax.pmap(synchronised, axis_name="devices", devices=devices)(
        x.reshape(4, 2, 3, 5), cotangent.reshape(4, 2, 3, 5)
    )
    mapped = (*(value.reshape(x.shape) for value in mapped[:2]), jax.tree.map(lambda s: s[0], mapped[2]))
    for actual in (sharded, mapped):
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5), actual, expected)


def test_one_value_per_channel_cannot_be_normalised():
    variables = BatchNorm().init(jax.random.key(0), jnp.ones((1, 3)), train=False)
    with pytest.raises(UserError, match=r"\(1, 3\).*larger batch"):
        BatchNorm().apply(variables, jnp.ones((1, 3)), train=True, mutable=["batch_stats"])


# ---- convolutions and linear layers


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
@pytest.mark.parametrize(("size", "stride"), [(1, 1), (1, 2), (3, 1), (3, 2), (7, 2)])
def test_conv_is_torchs(torch, variables_of, assert_close, platform, size, stride):
    theirs = torch.nn.Conv2d(5, 4, size, stride, size // 2, bias=False)
    x = random(0, (2, 11, 8, 5))
    with lowering_for(platform):
        ours = Conv(4, size, stride).apply({"params": variables_of({"c": theirs})["params"]["c"]}, x[:, None])
    assert_close(channels_first(ours[:, 0]), theirs(torch.tensor(channels_first(x))).detach())


@pytest.mark.parametrize("stride", [1, 2])
def test_gradients_of_the_forms_of_a_pointwise_conv_agree(stride):
    x, kernel = random(0, (2, 5, 6, 3)), random(1, (1, 1, 3, 4))

    def loss(x, kernel):
        return jnp.square(Conv(4, 1, stride).apply({"params": {"kernel": kernel}}, x)).sum()

    def gradients(platform):
        with lowering_for(platform):
            return jax.jit(jax.grad(loss, argnums=(0, 1)))(x, kernel)

    for fast, reference in zip(gradients("cpu"), gradients("reference"), strict=True):
        np.testing.assert_allclose(fast, reference, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("size", "strides"), [((3, 3), (2, 2)), ((5, 1, 1), (1, 1, 1)), ((3, 3, 3), (1, 2, 2))]
)
def test_depthwise_conv_is_torchs(torch, variables_of, assert_close, size, strides):
    kind = torch.nn.Conv2d if len(size) == 2 else torch.nn.Conv3d
    theirs = kind(6, 6, size, strides, [side // 2 for side in size], groups=6, bias=False)
    x = random(0, (2, 5, 7, 8, 6)[-len(size) - 1 :])[None]
    ours = DepthwiseConv(size, strides).apply({"params": variables_of({"c": theirs})["params"]["c"]}, x)
    assert_close(channels_first(ours), theirs(torch.tensor(channels_first(x))).detach())


def test_dense_is_torchs(torch, variables_of, assert_close):
    theirs, x = torch.nn.Linear(5, 3), random(0, (2, 4, 5))
    ours = Dense(3).apply({"params": variables_of({"c": theirs})["params"]["c"]}, x)
    assert_close(ours, theirs(torch.tensor(x)).detach())


@pytest.mark.parametrize(
    "layer", [Conv(4, 1), DepthwiseConv((3, 3), (1, 1)), Dense(4)], ids=["conv", "dw", "fc"]
)
def test_activations_take_the_asked_type_and_parameters_stay_float32(layer):
    layer = layer.clone(dtype=jnp.bfloat16)
    y, variables = layer.init_with_output(jax.random.key(0), jnp.ones((1, 4, 4, 4)))
    assert y.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}


def test_initialisers_have_the_stated_spread():
    shape, key = (3, 3, 40, 200), jax.random.key(0)
    normal = he_fan_out(key, shape, jnp.float32)
    assert abs(float(normal.std()) / (2 / (9 * 200)) ** 0.5 - 1) < 0.01
    assert float(abs(normal).max()) > 3 * float(normal.std())  # not truncated
    bound = (9 * 40) ** -0.5
    uniform = torch_uniform(key, shape, jnp.float32)
    assert 0.99 * bound < float(abs(uniform).max()) <= bound
    assert abs(float(uniform.std()) / (bound / 3**0.5) - 1) < 0.01
    bias = Dense(1000).init(key, jnp.ones((1, 16)))["params"]["bias"]
    assert 0.24 < float(abs(bias).max()) <= 0.25


# ---- dropout


class TwoDropouts(nn.Module):
    @nn.compact
    def __call__(self, x, keys, train):
        return Dropout(0.4, name="first")(x, keys, train), Dropout(0.4, name="second")(x, keys, train)


def test_dropout_depends_on_the_video_and_the_layer_alone():
    keys, x = jax.random.split(jax.random.key(3), 6), jnp.ones((6, 500))
    first, second = TwoDropouts().apply({}, x, keys, train=True)
    apart = [TwoDropouts().apply({}, x[i : i + 2], keys[i : i + 2], train=True)[0] for i in (0, 2, 4)]
    np.testing.assert_array_equal(jnp.concatenate(apart), first)
    assert len(np.unique(first, axis=0)) == 6
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(np.unique(first), np.float32([0, 1 / 0.6]))
    assert abs(float(first.mean()) - 1) < 0.05


def test_dropout_is_the_identity_where_it_should_be():
    x, keys = jnp.ones((2, 8)), jax.random.split(jax.random.key(0), 2)
    for rate, keys_given, train in [(0.0, keys, True), (0.5, None, True), (0.5, keys, False)]:
        np.testing.assert_array_equal(Dropout(rate).apply({}, x, keys_given, train), x)


# ---- encoders


@given(st.floats(0.1, 5000))
def test_rounded_channels_are_close_multiples_of_eight(channels):
    rounded = round_channels(channels)
    assert rounded % 8 == 0
    assert rounded >= max(8, 0.9 * channels)
    assert rounded <= max(8, channels + 8)

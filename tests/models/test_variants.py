"""Every layer, head and policy with and without jit and under pmap, and its gradient against differences.

Encoders and whole models are in tests/testing; synchronised batch norm is in test_layers.
"""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized
from jax.flatten_util import ravel_pytree

from adafocus_jax.models.classifier import ExitHeads
from adafocus_jax.models.heads import LinearHead
from adafocus_jax.models.layers import BatchNorm, Conv, Dense, DepthwiseConv, Dropout
from adafocus_jax.models.policies import SpatialPolicy, TemporalPolicy, TimeConv
from adafocus_jax.models.x3d import X3DHead
from adafocus_jax.testing.networks import noise

KEYS = jax.random.split(jax.random.key(2), 2)
# The module, the shape of its input, what else it is called with, the shape of its output.
CASES = {
    "batch_norm": (BatchNorm(), (2, 3, 4), (False,), (2, 3, 4)),
    "batch_norm_training": (BatchNorm(), (2, 3, 4), (True,), (2, 3, 4)),
    "conv": (Conv(4, 3, 2), (2, 5, 5, 3), (), (2, 3, 3, 4)),
    "conv_pointwise": (Conv(4, 1, 2), (2, 5, 5, 3), (), (2, 3, 3, 4)),
    "dense": (Dense(4), (2, 3), (), (2, 4)),
    "depthwise_conv": (DepthwiseConv((3, 3, 3), (1, 2, 2)), (2, 3, 4, 4, 3), (), (2, 3, 2, 2, 3)),
    "dropout": (Dropout(0.4), (2, 9), (KEYS, True), (2, 9)),
    "exit_heads": (ExitHeads(5), (2, 3, 4), (None, False), (2, 3, 5)),
    "linear_head": (LinearHead(5, dropout=0.3), (2, 3, 4), (KEYS, True), (2, 3, 5)),
    "spatial_policy": (SpatialPolicy(hidden=6), (2, 3, 4, 4, 5), (False,), (2, 3, 4)),
    "spatial_policy_per_video": (
        SpatialPolicy(hidden=6, per_video=True),
        (2, 3, 4, 4, 5),
        (False,),
        (2, 1, 4),
    ),
    "temporal_policy": (TemporalPolicy(hidden=6), (2, 4, 5), (False,), (2, 4)),
    "time_conv": (TimeConv(4, space=3), (2, 3, 4, 4, 3), (), (2, 3, 4, 4, 4)),
    "x3d_head": (X3DHead(5, hidden=6, dropout=0.3), (2, 4), (KEYS, True), (2, 5)),
}
ALL = [{"testcase_name": name, "name": name} for name in CASES]


@functools.cache
def prepared(name):
    """A function of variables and input, both, and its value."""
    module, shape, arguments, _ = CASES[name]
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    variables = noise(jax.eval_shape(lambda: module.init(jax.random.key(0), x, *arguments)))

    def apply(variables, x):
        return module.apply(variables, x, *arguments, mutable=["batch_stats"])[0]

    return apply, (variables, x), jax.device_get(jax.jit(apply)(variables, x))


class ModuleTest(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True, with_pmap=True)
    @parameterized.named_parameters(ALL)
    def test_is_the_same_however_it_runs(self, name):
        apply, arguments, expected = prepared(name)
        out = self.variant(apply)(*arguments)
        chex.assert_shape(out, CASES[name][-1])
        chex.assert_tree_all_finite(out)
        chex.assert_trees_all_close(out, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_gradient_is_the_slope(name):
    apply, arguments, expected = prepared(name)
    weights = np.random.default_rng(1).standard_normal(expected.shape).astype(np.float32)

    flat, restore = ravel_pytree(arguments)

    @jax.jit
    def loss(flat):
        return jnp.vdot(apply(*restore(flat)), weights)

    chex.assert_numerical_grads(loss, (flat,), order=1, modes=["rev"], eps=1e-3, atol=2e-2, rtol=2e-2)

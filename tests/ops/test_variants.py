"""Every op with and without jit and under pmap: shapes, finite values, the same numbers, gradients, one trace."""

import functools
import inspect

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized

from adafocus_jax import ops
from adafocus_jax.ops.platform import lowering_for

NOT_OF_ARRAYS = {"num_rounds", "lowering_for", "target_platform"}


def normal(*shape):
    rng = np.random.default_rng(list(shape))
    return rng.standard_normal(shape).astype(np.float32)


WEIGHTS = np.array([[0.1, 0.3, 0.2, 0.4], [0.25, 0.15, 0.5, 0.1]], np.float32)
INDICES = np.array([[1, 4, 6], [0, 2, 5]], np.int32)
BOXES = np.array([[0.9, 1.2, 3.3, 2.7], [1.4, -0.6, 4.2, 5.1]], np.float32)  # not on the kinks, pixel centres

CASES = {
    # The op with what is not an array bound; its arrays; the shape of its result.
    "boxes_from_actions": (
        functools.partial(ops.boxes_from_actions, extent=8, side_limits=(2, 6)),
        (np.abs(np.tanh(normal(2, 4))),),
        (2, 4),
    ),
    "crop_patches/gather": (
        functools.partial(ops.crop_patches, patch_size=3, method="gather"),
        (normal(2, 6, 7, 2), BOXES),
        (2, 3, 3, 2),
    ),
    "crop_patches/matrix": (
        functools.partial(ops.crop_patches, patch_size=3, method="matrix"),
        (normal(2, 6, 7, 2), BOXES),
        (2, 3, 3, 2),
    ),
    "depthwise_conv": (
        functools.partial(ops.depthwise_conv, strides=(2, 1), padding=(1, 1)),
        (normal(2, 5, 4, 3), normal(3, 3, 1, 3)),
        (2, 3, 4, 3),
    ),
    "draw_probability": (
        lambda weights: ops.draw_probability(weights, INDICES, 8),
        (WEIGHTS,),
        (2, 3),
    ),
    "exact_coefficients": (functools.partial(ops.exact_coefficients, rounds=2), (WEIGHTS,), (2, 4)),
    "expected_logits": (ops.expected_logits, (WEIGHTS, normal(2, 4, 5)), (2, 5)),
    "monte_carlo_coefficients": (
        lambda weights, gumbel: ops.monte_carlo_coefficients(weights, 2, gumbel),
        (WEIGHTS, normal(2, 6, 4)),
        (2, 4),
    ),
    "normalize_frames": (
        ops.normalize_frames,
        (np.arange(48, dtype=np.uint8).reshape(2, 2, 4, 3),),
        (2, 2, 4, 3),
    ),
    "select_frames": (
        lambda weights, thresholds: ops.select_frames(weights, 8, 3, thresholds).positions,
        (WEIGHTS, np.array([[0.2, 0.55, 0.8], [0.4, 0.1, 0.6]], np.float32)),
        (2, 3),
    ),
    "straight_through_gate": (
        lambda weights: ops.straight_through_gate(weights, INDICES, 8),
        (WEIGHTS,),
        (2, 3),
    ),
    "straight_through_pixels": (
        ops.straight_through_pixels,
        (normal(2, 3, 2, 2, 1), normal(2, 3, 2, 2, 1) + 1, np.float32(INDICES)),
        (2, 3, 2, 2, 1),
    ),
    "temporal_shift": (
        functools.partial(ops.temporal_shift, fraction=4),
        (normal(2, 3, 1, 2, 8),),
        (2, 3, 1, 2, 8),
    ),
}
NOT_THE_SLOPE = {
    "exact_coefficients",  # flows through the leading weight alone
    "monte_carlo_coefficients",
    "straight_through_gate",  # that of what it stands for
    "straight_through_pixels",
    "normalize_frames",  # of integers
}
ALL = [{"testcase_name": name.replace("/", "_"), "name": name} for name in CASES]


@functools.cache
def expected(name):
    op, arrays, _ = CASES[name]
    return jax.device_get(op(*map(jnp.asarray, arrays)))


def test_every_op_is_a_case():
    public = {
        name for name in ops.__all__ if inspect.isfunction(getattr(ops, name)) or name.startswith("straight")
    }
    assert {name.split("/")[0] for name in CASES} == public - NOT_OF_ARRAYS


class OpTest(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True, with_pmap=True)
    @parameterized.named_parameters(ALL)
    def test_is_the_same_however_it_runs(self, name):
        op, arrays, shape = CASES[name]
        out = self.variant(lambda *arrays: op(*arrays))(*arrays)
        chex.assert_shape(out, shape)
        chex.assert_tree_all_finite(out)
        chex.assert_trees_all_close(out, expected(name), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", [name for name in CASES if name not in NOT_THE_SLOPE])
def test_gradient_is_the_slope(name):
    op, arrays, _ = CASES[name]
    weights = normal(*CASES[name][2])
    # By the reference lowering too: the fast form of a convolution has a backward pass of its own.
    for platform in ("cpu", "reference") if name == "depthwise_conv" else ("cpu",):
        with lowering_for(platform):
            f = jax.jit(lambda *arrays: jnp.vdot(op(*arrays), weights))
            chex.assert_numerical_grads(f, arrays, order=1, modes=["rev"], eps=1e-3, atol=5e-3, rtol=1e-2)


@pytest.mark.parametrize("name", CASES)
def test_other_values_of_the_same_shapes_do_not_compile_again(name):
    op, arrays, _ = CASES[name]
    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def run(*arrays):
        return op(*arrays)

    run(*arrays)
    run(*(array[::-1].copy() for array in arrays))

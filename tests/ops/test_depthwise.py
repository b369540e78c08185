import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adafocus_jax.ops.depthwise import depthwise_conv
from adafocus_jax.ops.platform import lowering_for

CASES = {
    "2-D": ((2, 9, 8, 5), (3, 3), (1, 1), (1, 1)),
    "stride": ((2, 9, 8, 5), (3, 3), (2, 2), (1, 1)),
    "frames": ((2, 3, 7, 7, 4), (3, 3), (2, 2), (1, 1)),
    "3-D": ((2, 5, 6, 7, 3), (3, 3, 3), (1, 1, 1), (1, 1, 1)),
    "3-D stride": ((1, 4, 7, 8, 3), (3, 3, 3), (1, 2, 2), (1, 1, 1)),
    "time": ((1, 6, 4, 4, 3), (5, 1, 1), (1, 1, 1), (2, 0, 0)),
}


def random(seed, shape, dtype=np.float32):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def by_definition(x, kernel, strides, padding):
    dims = len(strides)
    front = x.ndim - dims - 1
    x = np.pad(x, [(0, 0)] * front + [(p, p) for p in padding] + [(0, 0)])
    sides = [
        (n - k) // s + 1 for n, k, s in zip(x.shape[front:-1], kernel.shape[:dims], strides, strict=True)
    ]
    out = np.zeros((*x.shape[:front], *sides, x.shape[-1]))
    for place in itertools.product(*map(range, sides)):
        window = tuple(
            slice(p * s, p * s + k) for p, s, k in zip(place, strides, kernel.shape[:dims], strict=True)
        )
        taps = x[(..., *window, slice(None))] * kernel.squeeze(-2)
        out[(..., *place, slice(None))] = taps.sum(tuple(range(front, front + dims)))
    return out


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
@pytest.mark.parametrize(("shape", "size", "strides", "padding"), CASES.values(), ids=CASES)
def test_every_form_is_the_definition(platform, shape, size, strides, padding):
    x, kernel = random(0, shape), random(1, (*size, 1, shape[-1]))
    with lowering_for(platform):
        actual = jax.jit(depthwise_conv, static_argnums=(2, 3))(x, kernel, strides, padding)
    np.testing.assert_allclose(actual, by_definition(x, kernel, strides, padding), rtol=1e-6, atol=5e-6)


@pytest.mark.parametrize(("shape", "size", "strides", "padding"), CASES.values(), ids=CASES)
def test_gradients_of_the_forms_agree(shape, size, strides, padding):
    x, kernel = random(0, shape), random(1, (*size, 1, shape[-1]))

    def loss(x, kernel):
        out = depthwise_conv(x, kernel, strides, padding)
        return jnp.vdot(out, random(2, out.shape))

    def gradients(platform):
        with lowering_for(platform):
            return jax.jit(jax.grad(loss, argnums=(0, 1)))(x, kernel)

    for fast, reference in zip(gradients("cpu"), gradients("reference"), strict=True):
        np.testing.assert_allclose(fast, reference, rtol=1e-6, atol=2e-5)


@settings(max_examples=12)
@given(
    side=st.integers(1, 9),
    other=st.integers(1, 9),
    size=st.sampled_from([1, 2, 3, 5]),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
)
def test_any_size_fits(side, other, size, stride, padding):
    if min(side, other) + 2 * padding < size:
        return
    x, kernel = random(side, (1, side, other, 2)), random(other, (size, size, 1, 2))
    with lowering_for("cpu"), jax.disable_jit():
        actual = depthwise_conv(jnp.asarray(x), jnp.asarray(kernel), (stride, stride), (padding, padding))
    expected = by_definition(x, kernel, (stride, stride), (padding, padding))
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-5)


def test_forms_are_what_the_platform_asks_for():
    def jaxpr(platform):
        with lowering_for(platform):
            return str(
                jax.make_jaxpr(lambda x, k: depthwise_conv(x, k, (1, 1), (1, 1)))(
                    jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 1, 2))
                )
            )

    assert "conv_general_dilated" not in jaxpr("cpu")
    assert jaxpr("cpu").count("optimization_barrier") == 2
    for platform in ("gpu", "tpu", "reference"):
        assert "feature_group_count=2" in jaxpr(platform)


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_type_is_kept_and_vmap_is_a_batch(platform):
    x, kernel = random(0, (3, 2, 5, 5, 4)), random(1, (3, 3, 1, 4))
    with lowering_for(platform):
        half = depthwise_conv(jnp.asarray(x, jnp.bfloat16), jnp.asarray(kernel, jnp.bfloat16), (1, 1), (1, 1))
        whole = depthwise_conv(jnp.asarray(x), jnp.asarray(kernel), (1, 1), (1, 1))
        mapped = jax.vmap(lambda x: depthwise_conv(x, jnp.asarray(kernel), (1, 1), (1, 1)))(jnp.asarray(x))
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype(jnp.float32), whole, atol=0.1)
    np.testing.assert_allclose(mapped, whole, rtol=1e-6, atol=1e-6)

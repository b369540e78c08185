import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adafocus_jax.ops.temporal_shift import temporal_shift


@settings(max_examples=15)
@given(frames=st.integers(1, 5), channels=st.integers(1, 20), fraction=st.sampled_from([3, 4, 8]))
def test_is_the_definition(frames, channels, fraction):
    x = np.random.default_rng(0).standard_normal((2, frames, 2, 1, channels)).astype(np.float32)
    fold = channels // fraction
    expected = np.zeros_like(x)
    for t in range(frames):
        if t + 1 < frames:
            expected[:, t, :, :, :fold] = x[:, t + 1, :, :, :fold]
        if t > 0:
            expected[:, t, :, :, fold : 2 * fold] = x[:, t - 1, :, :, fold : 2 * fold]
        expected[:, t, :, :, 2 * fold :] = x[:, t, :, :, 2 * fold :]
    with jax.disable_jit():
        actual = temporal_shift(jnp.asarray(x), fraction)
    np.testing.assert_array_equal(actual, expected)


def test_gradient_is_the_shift_back():
    cotangent = np.random.default_rng(0).standard_normal((1, 4, 1, 1, 8)).astype(np.float32)
    _, pullback = jax.vjp(temporal_shift, jnp.zeros((1, 4, 1, 1, 8)))
    back = np.asarray(pullback(jnp.asarray(cotangent))[0])
    # What came from the next frame goes back to it, and the other way round.
    np.testing.assert_array_equal(back[0, 1:, 0, 0, 0], cotangent[0, :-1, 0, 0, 0])
    np.testing.assert_array_equal(back[0, :-1, 0, 0, 1], cotangent[0, 1:, 0, 0, 1])
    assert back[0, 0, 0, 0, 0] == back[0, -1, 0, 0, 1] == 0
    np.testing.assert_array_equal(back[..., 2:], cotangent[..., 2:])


def test_narrow_features_and_types_are_kept():
    x = jnp.ones((1, 3, 2, 2, 7), jnp.bfloat16)
    assert temporal_shift(x).dtype == jnp.bfloat16
    np.testing.assert_array_equal(temporal_shift(x), x)


def test_frames_need_an_axis():
    with pytest.raises(AssertionError, match="rank"):
        temporal_shift(jnp.ones((6, 2, 2, 8)))

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adafocus_jax.ops.patch_crop import boxes_from_actions, crop_patches
from adafocus_jax.ops.platform import lowering_for

METHODS = ("gather", "matrix")


def crop_in_float64(image: np.ndarray, action: np.ndarray, patch_size: int) -> np.ndarray:
    """The definition, one tap at a time, of one frame ``[H, W, C]`` with sides of 96…H pixels."""
    extent = image.shape[0]
    action = action.astype(np.float64)
    side = 96 + (extent - 96) * action[2:]
    centre = (np.arange(patch_size) + 0.5) / patch_size
    padded = np.pad(image.astype(np.float64), ((1, 1), (1, 1), (0, 0)))
    for axis in (0, 1):
        at = action[axis] * (extent - side[axis]) + centre * side[axis] - 0.5
        low = np.floor(at).astype(int)
        share = (at - low).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        padded_taps = [np.take(padded, low + 1 + step, axis) for step in (0, 1)]
        padded = padded_taps[0] * (1 - share) + padded_taps[1] * share
    return padded


def relative_error(actual, expected) -> float:
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("method", METHODS)
def test_golden_patch_and_gradient(golden, method, jit_as_for_use):
    frames = np.random.default_rng(11).standard_normal((6, 3, 224, 224)).astype(np.float32)
    cotangent = np.random.default_rng(12).standard_normal((6, 3, 128, 128)).astype(np.float32)
    frames, cotangent = frames.transpose(0, 2, 3, 1), cotangent.transpose(0, 2, 3, 1)

    def weighted_patch(actions):
        patch = crop_patches(frames, boxes_from_actions(actions, 224, (96, 224)), 128, method)
        return jnp.sum(patch * cotangent), patch

    gradient, patch = jit_as_for_use(jax.grad(weighted_patch, has_aux=True))(golden["crop_actions"])
    exact = np.stack(
        [crop_in_float64(*pair, 128) for pair in zip(frames, golden["crop_actions"], strict=True)]
    )
    # White noise is the worst case: float32 rounds a coordinate of 200 px by 1e-5 px, and neighbours differ by
    # several units. The golden values are themselves 2.3e-5 away from the definition in float64.
    assert relative_error(patch, exact) < 2e-5
    assert relative_error(patch[:, ::8, ::8].transpose(0, 3, 1, 2), golden["crop_patch_sample"]) < 3e-5
    assert relative_error(gradient, golden["crop_action_grad"]) < 3e-5


@pytest.mark.parametrize("method", METHODS)
def test_golden_feature_map(golden, method):
    maps = golden["crop_map"].transpose(0, 2, 3, 1)
    boxes = boxes_from_actions(golden["crop_actions"], 7, (96 * 4 / 128, 224 * 4 / 128))
    patch = crop_patches(maps, boxes, 4, method)
    np.testing.assert_allclose(patch.transpose(0, 3, 1, 2), golden["crop_map_patch"], rtol=1e-5, atol=1e-6)


@partial(jax.jit, static_argnums=(2, 3))
def value_and_slopes(image, boxes, patch, method):
    cotangent = jnp.asarray(np.random.default_rng(1).standard_normal((1, patch, patch, 2)), jnp.float32)
    return jax.value_and_grad(
        lambda image, boxes: jnp.sum(crop_patches(image, boxes, patch, method) * cotangent), argnums=(0, 1)
    )(image, boxes)


@pytest.mark.parametrize(("height", "width", "patch"), [(1, 1, 1), (9, 6, 4), (3, 8, 7)])
@given(box=st.tuples(*[st.floats(-4, 9, width=32)] * 2, *[st.floats(0.5, 12, width=32)] * 2))
@settings(max_examples=40)
def test_both_methods_agree_in_value_and_gradient(height, width, patch, box):
    image = np.random.default_rng(0).standard_normal((1, height, width, 2)).astype(np.float32)
    boxes = np.asarray([box], np.float32)
    gathered, multiplied = (value_and_slopes(image, boxes, patch, method) for method in METHODS)
    chex.assert_trees_all_close(gathered, multiplied, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_gradients_agree_on_pixel_centres(method):
    """A box aligned with the pixels copies them, and its gradient looks at the next pixel, not the last."""
    ramp = jnp.square(jnp.arange(8.0))[None, :, None, None] * jnp.ones((1, 8, 8, 1))

    def total(top):
        box = jnp.stack([top, jnp.array(2.0), jnp.array(3.0), jnp.array(3.0)])[None]
        return crop_patches(ramp, box, 3, method)[0, :, 0, 0].sum()

    value, slope = jax.value_and_grad(total)(jnp.array(2.0))
    assert float(value) == 4 + 9 + 16
    assert float(slope) == (9 - 4) + (16 - 9) + (25 - 16)


def test_whole_image_is_identity_and_outside_is_zero():
    image = jnp.arange(25.0).reshape(1, 5, 5, 1)
    for method in METHODS:
        same = crop_patches(image, jnp.array([[0.0, 0.0, 5.0, 5.0]]), 5, method)
        np.testing.assert_array_equal(same, image)
        outside = crop_patches(image, jnp.array([[10.0, 10.0, 5.0, 5.0]]), 5, method)
        np.testing.assert_array_equal(outside, 0)


def test_auto_follows_the_platform_and_unknown_methods_are_named():
    image, box = jnp.ones((1, 4, 4, 1)), jnp.array([[0.0, 0.0, 4.0, 4.0]])

    def primitives(platform):
        with lowering_for(platform):
            return str(jax.make_jaxpr(lambda i, b: crop_patches(i, b, 2))(image, box))

    assert "dot_general" in primitives("tpu")
    assert "gather" not in primitives("tpu")
    assert "gather" in primitives("cpu")
    with pytest.raises(ValueError, match="gather or matrix, not 'bicubic'"):
        crop_patches(image, box, 2, "bicubic")

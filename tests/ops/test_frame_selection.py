from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adafocus_jax.ops.frame_selection import (
    draw_probability,
    select_frames,
    straight_through_gate,
    straight_through_pixels,
)

SIZES = {"base": (48, 16), "peaky": (48, 16), "tsm": (36, 12), "x3d": (96, 32)}


@pytest.mark.parametrize("case", SIZES)
def test_golden_indices(golden, case, jit_as_for_use):
    candidates, focus = SIZES[case]
    select = jit_as_for_use(select_frames, static_argnums=(1, 2))
    weights = golden[f"select_{case}_weights"]
    drawn = select(weights, candidates, focus, golden[f"select_{case}_uniforms"])
    np.testing.assert_array_equal(drawn.indices, golden[f"select_{case}_random"])
    fixed = select(weights, candidates, focus)
    np.testing.assert_array_equal(fixed.indices, golden[f"select_{case}_deterministic"])


@partial(jax.jit, static_argnums=(1, 2))
def selection_and_slope(weights, candidates, focus, thresholds):
    slope = jax.grad(lambda w: jnp.sum(select_frames(w, candidates, focus).positions))(weights)
    return select_frames(weights, candidates, focus, thresholds), slope


UNIT = {"width": 32, "allow_subnormal": False}


@pytest.mark.parametrize(
    ("glance", "candidates", "focus"), [(1, 1, 1), (1, 9, 9), (9, 9, 2), (5, 30, 9), (8, 12, 5)]
)
@given(data=st.data())
@settings(max_examples=30)
def test_indices_are_valid_and_finite(glance, candidates, focus, data):
    raw = data.draw(st.lists(st.floats(0, 1, **UNIT), min_size=glance, max_size=glance))
    weights = np.asarray([raw], np.float32)
    weights = weights / weights.sum() if weights.sum() > 0 else np.eye(1, glance, dtype=np.float32)
    u = data.draw(st.lists(st.floats(0, 1, exclude_max=True, **UNIT), min_size=focus, max_size=focus))
    selection, slope = selection_and_slope(weights, candidates, focus, np.asarray([u], np.float32))
    indices = np.asarray(selection.indices)[0]
    chex.assert_shape(indices, (focus,))
    assert np.all(np.diff(indices) > 0)
    assert indices.min() >= 0
    assert indices.max() < candidates
    chex.assert_tree_all_finite((selection.positions, slope))


def test_repair_equals_the_sequential_rule():
    rng = np.random.default_rng(0)
    weights = rng.dirichlet(np.full(8, 0.2), size=500).astype(np.float32)
    selection = select_frames(jnp.asarray(weights), 20, 10)
    for positions, indices in zip(
        np.asarray(selection.positions), np.asarray(selection.indices), strict=True
    ):
        expected = np.floor(positions).astype(int)
        for k in range(1, 10):
            expected[k] = max(expected[k], expected[k - 1] + 1)
        np.testing.assert_array_equal(indices, np.minimum(expected, 20 - 10 + np.arange(10)))


def test_more_frames_than_candidates_is_refused():
    with pytest.raises(ValueError, match="num_focus=5 frames among num_candidates=4"):
        select_frames(jnp.ones((1, 2)) / 2, 4, 5)


def test_draw_probability_is_the_frequency_of_the_draw():
    """P_k(t) of the piecewise-constant density, against counting where floor(τ_k) falls."""
    weights = jnp.asarray([[0.1, 0.6, 0.05, 0.25]], jnp.float32)
    u = np.random.default_rng(0).random((200_000, 1), np.float32)
    for k in range(3):
        quantile = (k + u[:, 0]) / 3
        cdf = np.concatenate([[0], np.cumsum(np.asarray(weights)[0])])
        frames = np.floor(8 * np.interp(quantile, cdf, np.linspace(0, 1, 5))).astype(int)
        frequency = np.bincount(frames, minlength=8)[:8] / len(u)
        chosen = jnp.asarray([[t] * 3 for t in range(8)])
        exact = draw_probability(jnp.tile(weights, (8, 1)), chosen, 8)[:, k]
        np.testing.assert_allclose(exact, frequency, atol=5e-3)


def test_gate_is_one_forward_and_the_closed_form_backward():
    """Two bins of weight (w, 1 − w), one draw on frame t of bin 0: P(t) = w·G/N, so dP/dw = ½ at N = 4."""
    weights = jnp.asarray([[0.75, 0.25]])
    for frame, expected in ((0, [0.5, 0.0]), (1, [0.5, 0.0]), (2, [0.0, 0.5])):
        index = jnp.asarray([[frame]])
        assert float(straight_through_gate(weights, index, 4)[0, 0]) == 1
        gradient = jax.grad(lambda w, index=index: straight_through_gate(w, index, 4).sum())(weights)
        # High borders move with both weights: only differences that keep Σw = 1 matter, as under a softmax.
        tangent = float(gradient[0, 0] - gradient[0, 1])
        assert tangent == pytest.approx(expected[0] - expected[1])


def test_pixels_gradient_is_the_finite_difference_of_the_linear_surrogate():
    rng = np.random.default_rng(0)
    frames = rng.standard_normal((1, 12, 4, 4, 3)).astype(np.float32)
    readout = rng.standard_normal((1, 3, 4, 4, 3)).astype(np.float32)
    weights = np.asarray([[0.2, 0.5, 0.1, 0.2]], np.float32)

    def cut(indices):
        return jnp.take_along_axis(frames, indices[:, :, None, None, None], axis=1)

    def score(w):
        chosen = select_frames(w, 12, 3)
        following = jnp.minimum(chosen.indices + 1, 11)
        patches = straight_through_pixels(cut(chosen.indices), cut(following), chosen.positions)
        return jnp.sum(patches * readout)

    def surrogate(w):
        """Frames interpolated linearly at τ around the chosen pair: what the estimator pretends."""
        chosen = select_frames(jnp.asarray(weights), 12, 3)
        positions = select_frames(w, 12, 3).positions
        share = (positions - chosen.positions)[:, :, None, None, None]
        here, following = cut(chosen.indices), cut(jnp.minimum(chosen.indices + 1, 11))
        return float(jnp.sum((here + (following - here) * share) * readout))

    gradient = np.asarray(jax.grad(score)(jnp.asarray(weights)))
    assert float(score(jnp.asarray(weights))) == pytest.approx(surrogate(jnp.asarray(weights)), rel=1e-6)
    step = 1e-2
    for g in range(3):  # weight moves from the last bin to bin g, so that Σw stays 1
        shift = np.zeros_like(weights)
        shift[0, g], shift[0, -1] = step, -step
        slope = (surrogate(jnp.asarray(weights + shift)) - surrogate(jnp.asarray(weights - shift))) / (
            2 * step
        )
        assert float((gradient * shift).sum() / step) == pytest.approx(slope, rel=2e-2, abs=1e-2)

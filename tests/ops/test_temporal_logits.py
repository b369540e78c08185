import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adafocus_jax.ops.temporal_logits import (
    exact_coefficients,
    expected_logits,
    monte_carlo_coefficients,
    num_rounds,
)


def brute_force(weights: np.ndarray, rounds: int) -> np.ndarray:
    """Enumerates ordered draws without replacement."""
    glance = len(weights)
    total = np.zeros(glance)
    for size in range(rounds):
        for order in itertools.permutations(range(glance), size):
            left, probability = 1.0, 1.0
            for frame in order:
                probability *= weights[frame] / left
                left -= weights[frame]
            outside = np.setdiff1d(np.arange(glance), order)
            total[outside] += probability * weights[outside] / left
    return total / rounds


@pytest.mark.parametrize(("glance", "rounds"), [(4, 1), (5, 3), (6, 4)])
def test_exact_equals_enumeration(glance, rounds):
    weights = np.random.default_rng(glance).dirichlet(np.ones(glance), size=3)
    coefficients = exact_coefficients(jnp.asarray(weights, jnp.float32), rounds)
    expected = [brute_force(row, rounds) for row in weights]
    np.testing.assert_allclose(coefficients, expected, rtol=2e-5)
    np.testing.assert_allclose(coefficients.sum(axis=1), 1, rtol=1e-5)


def test_monte_carlo_mean_agrees_within_its_error():
    weights = jnp.asarray(np.random.default_rng(0).dirichlet(np.full(16, 0.5), size=2), jnp.float32)
    rounds = num_rounds(16)
    gumbel = jax.random.gumbel(jax.random.key(0), (40, 2, 128, 16))
    sample = jax.jit(jax.vmap(lambda g: monte_carlo_coefficients(weights, rounds, g)))(gumbel)
    error = sample.std(axis=0) / np.sqrt(40)
    exact = exact_coefficients(weights, rounds)
    assert np.all(np.abs(sample.mean(axis=0) - exact) < 5 * error + 1e-6)


@pytest.mark.parametrize("estimator", ["exact", "monte_carlo"])
def test_gradient_flows_through_the_leading_weight_alone(estimator):
    weights = jnp.asarray([[0.5, 0.3, 0.1, 0.05, 0.03, 0.02]])
    gumbel = jax.random.gumbel(jax.random.key(1), (1, 8, 6))

    def coefficients(w):
        return exact_coefficients(w, 2) if estimator == "exact" else monte_carlo_coefficients(w, 2, gumbel)

    jacobian = jax.jacobian(coefficients)(weights)[0, :, 0, :]
    np.testing.assert_allclose(jacobian, np.diag(coefficients(weights)[0] / weights[0]), rtol=1e-5)


@pytest.mark.parametrize("estimator", ["exact", "monte_carlo"])
@pytest.mark.parametrize("peak", [10.0, 50.0, 1e4])
def test_near_one_hot_weights_stay_finite(estimator, peak):
    scores = jnp.zeros((2, 16)).at[:, 3].set(peak)
    logits = jax.random.normal(jax.random.key(0), (2, 16, 5))
    gumbel = jax.random.gumbel(jax.random.key(1), (2, 128, 16))

    def loss(scores):
        w = jax.nn.softmax(scores)
        c = exact_coefficients(w, 5) if estimator == "exact" else monte_carlo_coefficients(w, 5, gumbel)
        return jnp.sum(jnp.square(expected_logits(c, logits)))

    value, gradient = jax.value_and_grad(loss)(scores)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


def test_subset_explosion_is_refused_with_the_way_out():
    with pytest.raises(ValueError, match="use temporal_estimator='monte_carlo'"):
        exact_coefficients(jnp.ones((1, 64)) / 64, num_rounds(64))

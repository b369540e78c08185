"""Expected logits of the glance frames that random frame selection would leave (paper, section on training the
temporal policy): the loss through which the temporal policy learns."""

from __future__ import annotations

import itertools
from functools import lru_cache
from math import comb

import chex
import jax
import jax.numpy as jnp
import numpy as np

from adafocus_jax.types import Array

MAX_SUBSETS = 1 << 16
"""Beyond this many subsets of the glance frames, sample (``monte_carlo``) instead of enumerating (``exact``)."""
_TINY = 1e-30


def num_rounds(num_glance: int, nearest: bool = False) -> int:
    """``T1 = G // 3`` rounds (``nearest``: rounded G / 3), at least one: sets of 0 … T1 − 1 removed frames."""
    return max(1, round(num_glance / 3) if nearest else num_glance // 3)


def exact_coefficients(weights: Array, rounds: int) -> Array:
    """Coefficients ``c [B, G]`` such that the expected logits are ``Σ_g c_g ℓ_g``, without sampling.

    ``c_t = w_t / T1 · Σ_{i<T1} Σ_{|S|=i, t∉S} p(S) / Σ_{s∉S} w_s``, where ``p(S)``, the probability that the first i
    frames drawn without replacement (∝ w) are the set S, obeys ``p(S) = Σ_{j∈S} p(S∖j) · w_j / Σ_{s∉S∖j} w_s``.
    The gradient flows through the leading ``w_t`` alone, as in the authors' release.

    Args:
      weights: ``[B, G]`` float32, rows sum to 1.
      rounds: ``T1`` in 1…G.

    Returns:
      ``[B, G]`` float32; rows sum to 1. Finite for one-hot weights too.

    Raises:
      ValueError: the subsets are too many to enumerate.

    Example:
      >>> exact_coefficients(jnp.array([[0.5, 0.25, 0.25]]), 1).tolist()
      [[0.5, 0.25, 0.25]]
    """
    chex.assert_rank(weights, 2)
    w = jax.lax.stop_gradient(weights)
    rate = jnp.zeros_like(w)
    probability = scaled = jnp.ones((w.shape[0], 1), w.dtype)
    for size, level in enumerate(_subset_levels(weights.shape[1], rounds)):
        if size > 0:
            probability = jnp.sum(scaled[:, level.parents] * w[:, level.drawn], axis=-1)
        rest = jnp.dot(w, level.outside.T, precision=jax.lax.Precision.HIGHEST)
        scaled = probability / jnp.maximum(rest, _TINY)
        rate = rate + jnp.dot(scaled, level.outside, precision=jax.lax.Precision.HIGHEST)
    return weights * jax.lax.stop_gradient(rate) / rounds


class _Level:
    """All subsets of one size: members by complement mask, and how each grows from those one smaller."""

    def __init__(self, num_glance: int, size: int, smaller: dict[tuple[int, ...], int]) -> None:
        self.subsets = list(itertools.combinations(range(num_glance), size))
        members = np.array(self.subsets, np.int32).reshape(len(self.subsets), size)
        self.outside = np.ones((len(self.subsets), num_glance), np.float32)
        np.put_along_axis(self.outside, members, 0, axis=1)
        self.drawn = members
        self.parents = np.array(
            [[smaller[s[:j] + s[j + 1 :]] for j in range(size)] for s in self.subsets], np.int32
        ).reshape(len(self.subsets), size)


@lru_cache(maxsize=8)
def _subset_levels(num_glance: int, rounds: int) -> tuple[_Level, ...]:
    count = sum(comb(num_glance, size) for size in range(rounds))
    if count > MAX_SUBSETS:
        raise ValueError(
            f"temporal_estimator='exact' would enumerate {count} subsets of num_glance={num_glance} frames; "
            "use temporal_estimator='monte_carlo'"
        )
    levels: list[_Level] = []
    for size in range(rounds):
        smaller = {subset: i for i, subset in enumerate(levels[-1].subsets)} if levels else {}
        levels.append(_Level(num_glance, size, smaller))
    return tuple(levels)


def monte_carlo_coefficients(weights: Array, rounds: int, gumbel: Array) -> Array:
    """The same coefficients as a mean over M draws: Gumbel top-k orders the frames ∝ w without replacement.

    Args:
      weights: ``[B, G]`` float32, rows sum to 1.
      rounds: ``T1`` in 1…G.
      gumbel: ``[B, M, G]`` standard Gumbel noise.

    Returns:
      ``[B, G]`` float32; rows sum to 1.
    """
    chex.assert_rank([weights, gumbel], [2, 3])
    w = jax.lax.stop_gradient(weights)[:, None, :]
    keys = jnp.log(jnp.maximum(w, _TINY)) + gumbel
    order = jnp.argsort(jnp.argsort(-keys, axis=-1), axis=-1)
    rate = jnp.zeros_like(weights)
    for size in range(rounds):
        outside = (order >= size).astype(weights.dtype)
        rest = jnp.sum(outside * w, axis=-1, keepdims=True)
        rate = rate + jnp.mean(outside / jnp.maximum(rest, _TINY), axis=1)
    return weights * jax.lax.stop_gradient(rate) / rounds


def expected_logits(coefficients: Array, logits: Array) -> Array:
    """``Σ_g c_g ℓ_g``: ``[B, G]`` and ``[B, G, K]`` to ``[B, K]``."""
    return jnp.einsum("bg,bgk->bk", coefficients, logits, precision=jax.lax.Precision.HIGHEST)

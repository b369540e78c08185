"""The randomness of a step, made in one place. Each video's draws depend on its own place in the batch alone."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from adafocus_jax.types import Array, Draws

MONTE_CARLO_DRAWS = 128
"""M, the number of random orders behind one Monte-Carlo expectation (paper, implementation details)."""


def sample_draws(rng: Array, model: Any, batch_size: int, first: Array | int = 0) -> Draws:
    """Draws for videos ``first … first + batch_size − 1`` of a global batch.

    Video ``i`` gets the same draws for the same ``rng`` whatever the batch size and the number of devices.

    Args:
      rng: a typed random key, one per step.
      model: its ``draws(key)`` are those of one video.
      batch_size: ``B``, the videos drawn for here.
      first: position of the first of them in the global batch.

    Returns:
      ``Draws`` with leading axis ``B``.
    """
    places = jnp.arange(batch_size, dtype=jnp.uint32) + jnp.asarray(first, jnp.uint32)
    keys = jax.vmap(lambda place: jax.random.fold_in(rng, place))(places)
    return jax.vmap(model.draws)(keys)


def policy_draws(model: Any, key: Array) -> Draws:
    """All randomness of one video in a model with policies: what ``AdaFocus.draws`` returns."""
    glance, focus = model.num_glance, model.num_focus
    per_video = model.box_per_video
    keys = iter(jax.random.split(key, 7))
    uniform = jax.random.uniform
    sampled = model.temporal_estimator == "monte_carlo"
    return Draws(
        glance_offsets=uniform(next(keys), (glance,)),
        thresholds=uniform(next(keys), (focus,)),
        positions=uniform(next(keys), (1 if per_video else focus, 2)),
        dropout=next(keys),
        gumbel=jax.random.gumbel(next(keys), (MONTE_CARLO_DRAWS, glance)) if sampled else None,
        control_positions=uniform(next(keys), (1 if per_video else glance, 2))
        if model.spatial in ("random", "gaussian")
        else None,
        frame_order=uniform(next(keys), (model.num_candidates,)) if model.temporal == "random" else None,
    )


def dropout_keys(draws: Draws | None, turn: int, train: bool) -> Array | None:
    """Dropout keys ``[B]`` of one of the two passes of a training step; None where nothing is dropped."""
    if not train or draws is None or draws.dropout is None:
        return None
    return jax.vmap(partial(jax.random.fold_in, data=turn))(draws.dropout)

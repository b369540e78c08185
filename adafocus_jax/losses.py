"""The training loss (paper, section on training): a weighted sum of named terms, one value per video."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import cast

import chex
import jax
import jax.numpy as jnp
import optax
from flax import struct

from adafocus_jax.errors import UserError
from adafocus_jax.types import Array, ModelOutput, PassOutput

LossTerm = Callable[[ModelOutput, Array], Array]
"""From a training pass and labels ``[B]`` to a float32 value per video, ``[B]``."""


@struct.dataclass
class Losses:
    """A loss and its terms, float32, one value per video: the caller reduces them, by a mask or weights if it likes."""

    total: Array
    """``[B]``: what is minimised, the weighted sum of the terms."""
    terms: dict[str, Array]
    """Name to ``[B]``, unweighted."""

    def mean(self) -> Losses:
        """The same with means over the videos, float32 scalars."""
        return cast(Losses, jax.tree.map(jnp.mean, self))


def cross_entropy(logits: Array, labels: Array) -> Array:
    """Softmax cross-entropy of each video, in nats, averaged over all but the batch and class axes.

    Args:
      logits: ``[B, ..., K]``.
      labels: ``[B]`` int in 0…K−1, shared by all logits of a video.

    Returns:
      ``[B]`` float32.

    Example:
      >>> cross_entropy(jnp.zeros((2, 3, 4)), jnp.array([0, 3])) / jnp.log(4)
      Array([1., 1.], dtype=float32)
    """
    chex.assert_rank(labels, 1)
    labels = jnp.broadcast_to(labels.reshape(-1, *(1,) * (logits.ndim - 2)), logits.shape[:-1])
    losses = optax.softmax_cross_entropy_with_integer_labels(logits.astype(jnp.float32), labels)
    return losses.reshape(len(losses), -1).mean(axis=1)


def exits_term(out: ModelOutput, labels: Array) -> Array:
    """Cross-entropy of all exits, averaged over both passes; of the last exit alone where ``out.average_frames``.

    There the exit after the glance is a frame average, which the glance term trains already.
    """
    first_exit = -1 if out.average_frames else 0
    return _over_passes(out, lambda one: cross_entropy(one.exit_logits[:, first_exit:], labels))


def glance_term(out: ModelOutput, labels: Array) -> Array:
    """Cross-entropy of the per-frame head on the glance; 0 without one."""
    return _per_frame(out, out.global_logits, labels)


def focus_term(out: ModelOutput, labels: Array) -> Array:
    """Cross-entropy of the per-frame head on the patches, averaged over both passes; 0 without one."""
    return _over_passes(out, lambda one: _per_frame(out, one.local_logits, labels))


def temporal_term(out: ModelOutput, labels: Array) -> Array:
    """Cross-entropy of the expected logits under frame selection; 0 without them."""
    return _zeros(labels) if out.temporal_logits is None else cross_entropy(out.temporal_logits, labels)


def spatial_term(out: ModelOutput, labels: Array) -> Array:
    """Cross-entropy of the spatial proxy; 0 where boxes are not learned."""
    return _zeros(labels) if out.spatial_logits is None else cross_entropy(out.spatial_logits, labels)


def norm_term(out: ModelOutput, labels: Array) -> Array:
    """``mean((s − 1)²)`` over the size actions of a video: keeps boxes from shrinking."""
    del labels
    return jnp.square(out.actions[..., 2:] - 1).mean(axis=(1, 2))


def kl_term(out: ModelOutput, labels: Array) -> Array:
    """``KL(weights ‖ uniform)`` of the frame weights, in nats: keeps them from collapsing."""
    del labels
    entropy = -jnp.sum(out.frame_weights * jnp.log(jnp.maximum(out.frame_weights, 1e-30)), axis=-1)
    return jnp.log(out.frame_weights.shape[-1]) - entropy


LOSS_TERMS: dict[str, LossTerm] = {
    "exits": exits_term,
    "glance": glance_term,
    "focus": focus_term,
    "temporal": temporal_term,
    "spatial": spatial_term,
    "norm": norm_term,
    "kl": kl_term,
}
"""Name to term. ``register_loss_term`` adds one."""
LOSS_WEIGHTS: Mapping[str, float] = MappingProxyType(
    {"exits": 1.0, "glance": 1.0, "focus": 1.0, "temporal": 1.0, "spatial": 1.0, "norm": 1.0, "kl": 0.0}
)
"""The published weights (ActivityNet's)."""


def register_loss_term(name: str, term: LossTerm) -> None:
    """Makes ``term`` available to ``uni_adafocus_loss`` and to ``config.loss.weights``.

    Args:
      name: as in the configuration and in the logs, ``loss/NAME``.
      term: from a training pass and labels ``[B]`` to a value per video, ``[B]`` float32.

    Raises:
      UserError: another term has this name, or it is ``total``.
    """
    if name == "total" or LOSS_TERMS.get(name, term) is not term:
        raise UserError(f"loss term {name!r} exists already: choose another name")
    LOSS_TERMS[name] = term


def check_loss_weights(weights: Mapping[str, float]) -> None:
    """Raises UserError for a weight below 0 or of a term that is not registered."""
    for name, weight in weights.items():
        if name not in LOSS_TERMS:
            raise UserError(
                f"loss weight {name!r}: no such term; choose among {', '.join(LOSS_TERMS)}, or register it in a plugin"
            )
        if not weight >= 0:
            raise UserError(f"loss weight {name}={weight!r} is not valid: give 0 or more")


def uni_adafocus_loss(out: ModelOutput, labels: Array, weights: Mapping[str, float] | None = None) -> Losses:
    """``Σ_term weight · term``, which with the published weights is
    ``½ Σ_{learned, random} [exits + glance + focus + temporal + spatial] + norm_ratio·norm + kl_ratio·kl``.

    Glance, temporal and spatial terms do not depend on the boxes and count alike in both passes. Where
    ``out.average_frames``, glance and focus are the cross-entropies of frame-averaged logits.

    Args:
      out: of a training pass (``train=True``).
      labels: ``[B]`` int32 in 0…K−1.
      weights: name of a term in ``LOSS_TERMS`` to its weight, 0 or more; a published term that is not named keeps its
        weight of ``LOSS_WEIGHTS``. A term of weight 0 is computed all the same, to be logged.

    Returns:
      The loss of each video.

    Raises:
      UserError: an unknown term, or a weight below 0.
      ValueError: ``out`` is of an evaluation pass.
    """
    chex.assert_rank(labels, 1)
    if out.policy is None or out.random is None:
        raise ValueError("the loss needs both passes: apply the model with train=True")
    weights = {**LOSS_WEIGHTS, **(weights or {})}
    check_loss_weights(weights)
    terms = {name: LOSS_TERMS[name](out, labels) for name in weights}
    for name, term in terms.items():
        chex.assert_shape(term, labels.shape, custom_message=f"loss term {name!r} is not one value per video")
    total = sum((weights[name] * term for name, term in terms.items()), _zeros(labels))
    return Losses(total, terms)


def _per_frame(out: ModelOutput, logits: Array | None, labels: Array) -> Array:
    if logits is None:
        return _zeros(labels)
    return cross_entropy(logits.mean(axis=1) if out.average_frames else logits, labels)


def _over_passes(out: ModelOutput, term: Callable[[PassOutput], Array]) -> Array:
    passes = cast(tuple[PassOutput, PassOutput], (out.policy, out.random))
    return (term(passes[0]) + term(passes[1])) / 2


def _zeros(labels: Array) -> Array:
    return jnp.zeros(labels.shape, jnp.float32)

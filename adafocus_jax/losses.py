"""The training loss (paper, section on training): cross-entropies of both passes, and two regularisers."""

from __future__ import annotations

import chex
import jax.numpy as jnp
import optax
from flax import struct

from adafocus_jax.types import Array, ModelOutput


@struct.dataclass
class Losses:
    """The total and every term of it, float32 scalars, means over the batch."""

    total: Array
    """What is minimised: the sum of the five cross-entropies, norm_ratio · norm and kl_ratio · kl."""
    exits: Array
    """Cross-entropy of all exits; of the last alone where logits are averaged over frames."""
    glance: Array
    """Cross-entropy of the per-frame head on the glance; 0 without one."""
    focus: Array
    """Cross-entropy of the per-frame head on the patches; 0 without one."""
    temporal: Array
    """Cross-entropy of the expected logits under frame selection; 0 without them."""
    spatial: Array
    """Cross-entropy of the spatial proxy; 0 where boxes are not learned."""
    norm: Array
    """Mean squared distance of the size actions from 1: keeps boxes from shrinking."""
    kl: Array
    """KL divergence of the frame weights from uniform, in nats: keeps them from collapsing."""


def cross_entropy(logits: Array, labels: Array) -> Array:
    """Mean softmax cross-entropy, in nats, over all but the class axis.

    Args:
      logits: ``[B, ..., K]``.
      labels: ``[B]`` int in 0…K−1, shared by all logits of a video.
    """
    labels = jnp.broadcast_to(labels.reshape(-1, *(1,) * (logits.ndim - 2)), logits.shape[:-1])
    losses = optax.softmax_cross_entropy_with_integer_labels(logits.astype(jnp.float32), labels)
    return losses.mean()


def uni_adafocus_loss(
    out: ModelOutput, labels: Array, norm_ratio: float = 1.0, kl_ratio: float = 0.0
) -> Losses:
    """``½ Σ_{learned, random} [exits + glance + focus + temporal + spatial] + norm_ratio·norm + kl_ratio·kl``.

    Glance, temporal and spatial terms do not depend on the boxes and count alike in both passes. Where
    ``out.average_frames``, glance and focus are the cross-entropies of frame-averaged logits, and exits that of the
    last exit: the exit after the glance is such an average, which the glance term trains already.

    Args:
      out: of a training pass (``train=True``).
      labels: ``[B]`` int32 in 0…K−1.
      norm_ratio: weight of ``mean((s − 1)²)`` over the size actions.
      kl_ratio: weight of ``KL(weights ‖ uniform)``.

    Raises:
      ValueError: ``out`` is of an evaluation pass.
    """
    chex.assert_rank(labels, 1)
    if out.policy is None or out.random is None:
        raise ValueError("the loss needs both passes: apply the model with train=True")
    passes = (out.policy, out.random)
    zero = jnp.zeros((), jnp.float32)
    first_exit = -1 if out.average_frames else 0

    def term(logits: Array | None) -> Array:
        return zero if logits is None else cross_entropy(logits, labels)

    def per_frame(logits: Array | None) -> Array:
        return term(logits.mean(axis=1) if logits is not None and out.average_frames else logits)

    terms = {
        "exits": sum((term(p.exit_logits[:, first_exit:]) for p in passes), zero) / 2,
        "glance": per_frame(out.global_logits),
        "focus": sum((per_frame(p.local_logits) for p in passes), zero) / 2,
        "temporal": term(out.temporal_logits),
        "spatial": term(out.spatial_logits),
    }
    norm = jnp.mean(jnp.square(out.actions[..., 2:] - 1))
    entropy = -jnp.sum(out.frame_weights * jnp.log(jnp.maximum(out.frame_weights, 1e-30)), axis=-1)
    kl = jnp.mean(jnp.log(out.frame_weights.shape[-1]) - entropy)
    total = sum(terms.values(), zero) + norm_ratio * norm + kl_ratio * kl
    return Losses(total=total, norm=norm, kl=kl, **terms)

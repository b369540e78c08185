"""The per-frame heads: logits from pooled features."""

from __future__ import annotations

import jax.numpy as jnp
from flax import linen as nn

from adafocus_jax.models.layers import Dense, Dropout
from adafocus_jax.types import Array


class LinearHead(nn.Module):
    """Dropout and a linear layer, always in float32."""

    num_classes: int
    dropout: float = 0.0

    @nn.compact
    def __call__(self, features: Array, keys: Array | None, train: bool) -> Array:
        """``[B, ..., D]`` and dropout keys ``[B]`` to float32 logits ``[B, ..., K]``."""
        features = Dropout(self.dropout, name="dropout")(features.astype(jnp.float32), keys, train)
        return Dense(self.num_classes, name="linear")(features)

"""The classifier of ``uni_adafocus``: an exit after every glance frame and every focus frame."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from adafocus_jax.models.layers import BatchNorm, Dense, Dropout, torch_uniform
from adafocus_jax.ops.platform import target_platform
from adafocus_jax.types import Array


class ExitHeads(nn.Module):
    """One linear head per exit, each with its own dropout: ``[B, E, C]`` to float32 ``[B, E, K]``."""

    num_classes: int
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x: Array, keys: Array | None, train: bool) -> Array:
        """Kernel ``[E, C, K]``, bias ``[E, K]``, initialised as PyTorch does a linear layer."""
        exits, width = x.shape[1:]
        kernel = self.param("kernel", _per_exit(torch_uniform), (exits, width, self.num_classes), jnp.float32)
        bound = width**-0.5
        bias = self.param(
            "bias",
            lambda key, shape: jax.random.uniform(key, shape, minval=-bound, maxval=bound),
            (exits, self.num_classes),
        )
        x = Dropout(self.dropout, name="dropout")(x.astype(jnp.float32), keys, train)
        return jnp.einsum("bec,eck->bek", x, kernel) + bias[None]

    def at(self, x: Array, exits: Array) -> Array:
        """One exit for each row, without dropout: ``[M, C]`` and exits ``[M]`` in 0…E−1 to float32 ``[M, K]``.

        The cost of a row is that of one exit, in whatever form it is computed.
        """
        kernel: Array = self.get_variable("params", "kernel")
        bias: Array = self.get_variable("params", "bias")
        x = x.astype(jnp.float32)
        if target_platform() == "cpu":
            logits = jax.lax.map(lambda row: row[0] @ kernel[row[1]], (x, exits))
        elif len(x) == 1:
            logits = jnp.einsum("mc,mck->mk", x, kernel[exits])
        else:  # All exits, since a batched product would first copy a kernel for every row.
            chosen = exits[:, None] == jnp.arange(len(kernel))[None]
            logits = jnp.einsum("mc,eck->mek", x, kernel)
            logits = jnp.where(chosen[..., None], logits, jnp.zeros((), jnp.float32)).sum(axis=1)
        return logits + bias[exits]

    def last(self, x: Array) -> Array:
        """The last exit for every row, without dropout: ``[M, C]`` to float32 ``[M, K]``."""
        kernel: Array = self.get_variable("params", "kernel")
        bias: Array = self.get_variable("params", "bias")
        return x.astype(jnp.float32) @ kernel[-1] + bias[-1:]


def _per_exit(init: Callable[..., Array]) -> Callable[..., Array]:
    """The initialiser of one exit's kernel, drawn anew for each (a fan over all exits would be too small)."""

    def stacked(key: Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> Array:
        return jax.vmap(lambda k: init(k, shape[1:], dtype))(jax.random.split(key, shape[0]))

    return stacked


class PoolingClassifier(nn.Module):
    """Running maximum over frames of a hidden layer; an exit reads it after each frame (paper, section on early exit).

    ``z = ReLU(BN(linear(features)))`` for glance and focus features; glance exit ``g`` is a linear head on
    ``max_{i ≤ g} z_i``; focus exit ``f`` one on [running focus maximum ‖ maximum over the whole glance].
    """

    num_classes: int
    hidden: int = 4096
    dropout: float = 0.0
    reuse_glance: bool = True
    """False, for the ablation: focus exits read the focus maximum alone."""
    norm: Callable[..., nn.Module] = BatchNorm
    dtype: jnp.dtype = jnp.float32

    def setup(self) -> None:
        """One hidden layer and one set of heads for each of the two kinds of features."""
        self.glance_hidden = Dense(self.hidden, dtype=self.dtype)
        self.glance_norm = self.norm(dtype=self.dtype)
        self.focus_hidden = Dense(self.hidden, dtype=self.dtype)
        self.focus_norm = self.norm(dtype=self.dtype)
        self.glance_heads = ExitHeads(self.num_classes, self.dropout)
        self.focus_heads = ExitHeads(self.num_classes, self.dropout)

    def pool_glance(self, features: Array, train: bool) -> Array:
        """Running maximum ``[B, G, hidden]`` of glance features ``[B, G, D]``."""
        z = nn.relu(self.glance_norm(self.glance_hidden(features), train))
        return jax.lax.cummax(z, axis=1)

    def glance_exits(self, pooled: Array, keys: Array | None, train: bool) -> Array:
        """Logits ``[B, G, K]`` of the exits along the glance."""
        return self.glance_heads(pooled, keys, train)

    def last_glance_exit(self, memory: Array) -> Array:
        """Logits ``[B, K]`` of the last exit along the glance, on the maximum ``[B, hidden]`` over all of it."""
        return self.glance_heads.last(memory)

    def hide_focus(self, features: Array, train: bool) -> Array:
        """Hidden values ``[..., hidden]``, not below 0, of focus features ``[..., D']``."""
        return nn.relu(self.focus_norm(self.focus_hidden(features), train))

    def focus_exit(self, pooled: Array, glance: Array, exits: Array) -> Array:
        """Logits ``[M, K]``, row by row of the exit ``exits [M]``, on maxima over focus and glance ``[M, hidden]``."""
        return self.focus_heads.at(self._with_glance(pooled, glance), exits)

    def last_focus_exit(self, pooled: Array, glance: Array) -> Array:
        """As ``focus_exit``, every row of the last exit."""
        return self.focus_heads.last(self._with_glance(pooled, glance))

    def focus_exits(self, features: Array, glance: Array, keys: Array | None, train: bool) -> Array:
        """Logits ``[B, F, K]`` of the exits along features ``[B, F, D']``; ``glance [B, hidden]`` is its maximum."""
        z = self.hide_focus(features, train)
        glance = jnp.broadcast_to(glance[:, None], z.shape)
        return self.focus_heads(self._with_glance(jax.lax.cummax(z, axis=1), glance), keys, train)

    def _with_glance(self, pooled: Array, glance: Array) -> Array:
        return jnp.concatenate([pooled, glance], axis=-1) if self.reuse_glance else pooled

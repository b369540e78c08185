"""Temporal shift (Lin et al., "TSM: Temporal Shift Module for Efficient Video Understanding", ICCV 2019)."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp


def temporal_shift(x: jax.Array, fraction: int = 8) -> jax.Array:
    """Takes the first c = C // ``fraction`` channels from the next frame and the following c from the last.

    ``y[t, :c] = x[t + 1, :c]``, ``y[t, c:2c] = x[t − 1, c:2c]``, zeros beyond the ends; the rest stays. Costs
    no multiply-add.

    Args:
      x: ``[B, T, H, W, C]``.
      fraction: one part in this many goes each way.

    Returns:
      The shape and type of ``x``.

    Example:
      >>> x = jnp.arange(1.0, 10.0).reshape(1, 3, 1, 1, 3)
      >>> temporal_shift(x, fraction=3)[0, :, 0, 0].tolist()
      [[4.0, 0.0, 3.0], [7.0, 2.0, 6.0], [0.0, 5.0, 9.0]]
    """
    chex.assert_rank(x, 5)
    fold = x.shape[-1] // fraction
    earlier, later, rest = jnp.split(x, [fold, 2 * fold], axis=-1)
    from_next = jnp.pad(earlier[:, 1:], [(0, 0), (0, 1), (0, 0), (0, 0), (0, 0)])
    from_last = jnp.pad(later[:, :-1], [(0, 0), (1, 0), (0, 0), (0, 0), (0, 0)])
    return jnp.concatenate([from_next, from_last, rest], axis=-1)

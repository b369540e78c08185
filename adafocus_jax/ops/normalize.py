"""Pixels to network input, on the device: batches travel as uint8."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from adafocus_jax.types import Array

MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)


def normalize_frames(frames: Array, dtype: jnp.dtype = jnp.float32) -> Array:
    """ImageNet normalisation, ``(frames / 255 − MEAN) / STD``, of uint8 frames; floats are normalised already.

    Args:
      frames: ``[..., 3]`` uint8 RGB in 0…255, or floating.
      dtype: floating type of the result.

    Returns:
      ``[..., 3]`` of ``dtype``.

    Raises:
      TypeError: ``frames`` is neither uint8 nor floating.

    Example:
      >>> [round(value, 2) for value in normalize_frames(np.full(3, 255, np.uint8)).tolist()]
      [2.25, 2.43, 2.64]
    """
    if jnp.issubdtype(frames.dtype, jnp.floating):
        return jnp.asarray(frames, dtype)
    if frames.dtype != jnp.uint8:
        raise TypeError(f"frames must be uint8, or floating and normalised; got {frames.dtype}")
    scale, shift = 1 / (255 * STD), -MEAN / STD
    shape = (1,) * (frames.ndim - 1) + (3,)
    return jnp.asarray(jnp.asarray(frames, jnp.float32) * scale.reshape(shape) + shift.reshape(shape), dtype)

"""Differentiable crop-and-resize of one box per image (paper, section on spatial dynamic computation).

Output pixel ``i`` of ``P`` reads the source coordinate ``c_i = top + (i + ½)·side/P − ½``, interpolated
bilinearly with zeros outside the image: half-pixel centres, zero padding, no antialiasing. Rows and columns
interpolate independently. Two implementations agree in value and gradient:

* ``gather`` reads the four corners of every output pixel. Fast where memory is randomly addressable (CPU, GPU).
* ``matrix`` multiplies by two small interpolation matrices. Fast on matrix units (TPU), where a gather of pixels
  touches a thousand times the bytes.
"""

from __future__ import annotations

from typing import Any, Literal

import chex
import jax
import jax.numpy as jnp

from adafocus_jax.ops.platform import target_platform
from adafocus_jax.types import Array

CropMethod = Literal["auto", "gather", "matrix"]
"""``auto`` takes the form that is fast on the platform traced for."""


def boxes_from_actions(actions: Array, extent: float, side_limits: tuple[float, float]) -> Array:
    """Boxes of actions: ``side = lo + (hi − lo)·s``, ``top = y·(extent − side)``, the same for x.

    Args:
      actions: ``[..., 4]`` in (0, 1): (y, x, size_y, size_x).
      extent: side of the square image in pixels.
      side_limits: (lo, hi) of the box's side in pixels. Up to ``extent``, the box lies inside the image.

    Returns:
      ``[..., 4]`` boxes in pixels: top, left, height, width.

    Example:
      >>> boxes_from_actions(jnp.array([0.5, 1.0, 0.0, 1.0]), 224, (96, 224)).tolist()
      [64.0, 0.0, 96.0, 224.0]
    """
    low, high = side_limits
    sides = low + (high - low) * actions[..., 2:]
    return jnp.concatenate([actions[..., :2] * (extent - sides), sides], axis=-1)


def crop_patches(images: Array, boxes: Array, patch_size: int, method: CropMethod = "auto") -> Array:
    """Cuts one box from each image and resamples it to ``patch_size``².

    Args:
      images: ``[..., H, W, C]`` floating.
      boxes: ``[..., 4]`` float32 in pixels (top, left, height, width), leading axes as in ``images``.
      patch_size: side ``P`` of the result.
      method: ``gather``, ``matrix``, or ``auto`` for the faster of the two on the platform traced for.

    Returns:
      ``[..., P, P, C]`` of the images' type; differentiable in images and boxes.

    Raises:
      ValueError: an unknown method.

    Example:
      >>> ramp = jnp.tile(jnp.arange(4.0)[None, :, None], (4, 1, 1))
      >>> crop_patches(ramp, jnp.array([0.0, 1.0, 2.0, 2.0]), 2)[0, :, 0].tolist()
      [1.0, 2.0]
    """
    chex.assert_equal_shape_prefix((images, boxes), boxes.ndim - 1)
    chex.assert_axis_dimension(boxes, -1, 4)
    if method not in ("auto", "gather", "matrix"):
        raise ValueError(f"crop method must be auto, gather or matrix, not {method!r}")
    if method == "auto":
        method = "matrix" if target_platform() == "tpu" else "gather"
    height, width, channels = images.shape[-3:]
    lead = boxes.shape[:-1]
    boxes = jnp.asarray(boxes, jnp.float32).reshape(-1, 4)
    rows = _taps(boxes[:, 0], boxes[:, 2], patch_size, height)
    columns = _taps(boxes[:, 1], boxes[:, 3], patch_size, width)
    crop = _crop_by_gather if method == "gather" else _crop_by_matrix
    patches = crop(images.reshape(-1, height, width, channels), rows, columns)
    return patches.reshape(*lead, patch_size, patch_size, channels)


class _Taps(tuple):
    """(lower source index, weight of the lower tap, weight of the upper tap), each ``[n, P]``."""


def _taps(start: Array, side: Array, patch_size: int, extent: int) -> _Taps:
    centres = (jnp.arange(patch_size, dtype=jnp.float32) + 0.5) / patch_size
    coordinates = start[:, None] + centres[None] * side[:, None] - 0.5
    lower = jax.lax.stop_gradient(jnp.floor(coordinates))
    fraction = coordinates - lower
    index = lower.astype(jnp.int32)
    inside = (index >= 0) & (index < extent)
    inside_next = (index >= -1) & (index < extent - 1)
    return _Taps((index, jnp.where(inside, 1 - fraction, 0), jnp.where(inside_next, fraction, 0)))


def _crop_by_gather(images: Array, rows: _Taps, columns: _Taps) -> Array:
    n, height, width, channels = images.shape
    pixels = images.reshape(n, height * width, channels)
    patch = jnp.zeros((), jnp.float32)
    for row, row_weight in _corners(rows, height):
        for column, column_weight in _corners(columns, width):
            index = (row[:, :, None] * width + column[:, None, :]).reshape(n, -1)
            corner = jax.vmap(lambda image, at: image.at[at].get(**_IN_BOUNDS))(pixels, index)
            weight = (row_weight[:, :, None] * column_weight[:, None, :]).reshape(n, -1, 1)
            patch = patch + corner.astype(jnp.float32) * weight
    return patch.astype(images.dtype)


_IN_BOUNDS: dict[str, Any] = {"mode": "promise_in_bounds", "wrap_negative_indices": False}


def _corners(taps: _Taps, extent: int) -> list[tuple[Array, Array]]:
    index, lower, upper = taps
    return [(jnp.clip(index, 0, extent - 1), lower), (jnp.clip(index + 1, 0, extent - 1), upper)]


def _crop_by_matrix(images: Array, rows: _Taps, columns: _Taps) -> Array:
    # Full precision: by default a TPU would round the weights of the interpolation to bfloat16.
    return jnp.einsum(
        "npy,nyxc,nqx->npqc",
        _matrix(rows, images.shape[1]).astype(images.dtype),
        images,
        _matrix(columns, images.shape[2]).astype(images.dtype),
        precision=jax.lax.Precision.HIGHEST,
    )


def _matrix(taps: _Taps, extent: int) -> Array:
    index, lower, upper = taps
    return lower[..., None] * jax.nn.one_hot(index, extent) + upper[..., None] * jax.nn.one_hot(
        index + 1, extent
    )

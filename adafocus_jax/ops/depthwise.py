"""Depthwise convolution in the form that is fast on the platform at hand."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from adafocus_jax.ops.platform import target_platform


def depthwise_conv(
    x: jax.Array, kernel: jax.Array, strides: Sequence[int], padding: Sequence[int]
) -> jax.Array:
    """Convolves each channel with its own kernel: ``y[p] = Σ_q x[strides · p + q − padding] · kernel[q]``.

    On a CPU it is a sum of shifted products, 11 to 300 times as fast as XLA's grouped convolution there;
    elsewhere it is that convolution.

    Args:
      x: ``[..., *space, C]``, the axes in front being batch.
      kernel: ``[*size, 1, C]`` with as many sizes as there are space axes (2 or 3), in the type of ``x``.
      strides: one per space axis.
      padding: zeros on both sides, one number per space axis.

    Returns:
      ``[..., *smaller, C]``, each side being ``(side + 2 · padding − size) // stride + 1``.

    Example:
      >>> x = jnp.arange(4.0).reshape(1, 1, 4, 1)
      >>> depthwise_conv(x, jnp.ones((1, 3, 1, 1)), (1, 1), (0, 1)).ravel().tolist()
      [1.0, 3.0, 6.0, 5.0]
    """
    dims = kernel.ndim - 2
    batch, space = x.shape[: -dims - 1], x.shape[-dims - 1 :]
    x = x.reshape(math.prod(batch), *space)
    form = _shifted_products if target_platform() == "cpu" else _grouped
    y = form(x, kernel, tuple(strides), tuple(padding))
    return y.reshape(*batch, *y.shape[1:])


def _grouped(
    x: jax.Array, kernel: jax.Array, strides: tuple[int, ...], padding: tuple[int, ...]
) -> jax.Array:
    space = "DHW"[-len(strides) :]
    return lax.conv_general_dilated(
        x,
        kernel,
        strides,
        [(p, p) for p in padding],
        dimension_numbers=(f"N{space}C", f"{space}IO", f"N{space}C"),
        feature_group_count=x.shape[-1],
    )


def _shifted_products(
    x: jax.Array, kernel: jax.Array, strides: tuple[int, ...], padding: tuple[int, ...]
) -> jax.Array:
    # The barriers keep XLA from recomputing the padding, or what follows the sum, once per tap.
    dtype = x.dtype
    x = lax.optimization_barrier(jnp.pad(x, [(0, 0), *((p, p) for p in padding), (0, 0)]))
    # In float32: the kernel's gradient is a sum over all places, which bfloat16 would lose.
    x, kernel = x.astype(jnp.float32), kernel.astype(jnp.float32)
    sizes = kernel.shape[:-2]
    ends = [side - size + 1 for side, size in zip(x.shape[1:-1], sizes, strict=True)]
    taps = []
    for offset in itertools.product(*map(range, sizes)):
        window = (slice(o, o + end, s) for o, end, s in zip(offset, ends, strides, strict=True))
        taps.append(x[(slice(None), *window)] * kernel[offset].reshape((1,) * (x.ndim - 1) + (-1,)))
    return lax.optimization_barrier(sum(taps[1:], taps[0]).astype(dtype))

"""What every network is built of: convolution, batch norm, linear layer, dropout, with PyTorch's semantics.

Parameters are float32. ``dtype`` is the type that activations are computed in (float32 or bfloat16).
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import struct
from jax import lax
from jax.typing import DTypeLike

from adafocus_jax.errors import UserError
from adafocus_jax.ops.depthwise import depthwise_conv
from adafocus_jax.ops.platform import target_platform
from adafocus_jax.types import Array

Initializer = Callable[..., jax.Array]

he_fan_out: Initializer = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
"""Normal, variance 2 / (kernel size · outputs), He et al.: convolutions of ResNet, MobileNetV2, X3D."""

torch_uniform: Initializer = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
"""Uniform in ±1/√fan_in: what PyTorch gives a convolution or linear layer unless told otherwise."""


@struct.dataclass
class FrameFeatures:
    """What an encoder returns, frame by frame, so that 2-D, shifted and 3-D encoders are interchangeable."""

    maps: jax.Array
    """``[B, T, h, w, D]``: the last feature map of each frame."""
    pooled: jax.Array
    """``[B, T, D]``: its mean over space."""


def round_channels(channels: float, divisor: int = 8) -> int:
    """The nearest multiple of ``divisor``, at least one, and never below 90% of what was asked for.

    >>> [round_channels(c) for c in (32 * 1.4, 24 * 0.5, 3)]
    [48, 16, 8]
    """
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


def pool_frames(maps: jax.Array) -> FrameFeatures:
    """Feature maps ``[B, T, h, w, D]`` with their mean over space (summed in float32)."""
    return FrameFeatures(maps, maps.mean(axis=(-3, -2), dtype=jnp.float32).astype(maps.dtype))


class Conv(nn.Module):
    """Square 2-D convolution without bias over ``[..., H, W, C]``, padded with ``kernel_size // 2`` zeros."""

    features: int
    kernel_size: int
    stride: int = 1
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> jax.Array:
        """``[..., ⌈H / stride⌉, ⌈W / stride⌉, features]``; kernel ``[kernel_size, kernel_size, C, features]``."""
        size, stride = self.kernel_size, self.stride
        kernel = self.param("kernel", he_fan_out, (size, size, x.shape[-1], self.features), jnp.float32)
        x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        if size == 1:
            # libtpu 0.0.42 dies of the gradient of a 1×1 convolution of stride 2, compiling for v6e.
            x, stride = x[..., ::stride, ::stride, :], 1
            if target_platform() == "cpu":  # a matrix product is faster there
                return x @ kernel[0, 0]
        y = lax.conv_general_dilated(
            x.reshape(-1, *x.shape[-3:]),
            kernel,
            (stride, stride),
            [(size // 2, size // 2)] * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        return y.reshape(*x.shape[:-3], *y.shape[1:])


class DepthwiseConv(nn.Module):
    """Convolution of each channel on its own, in 2 or 3 dimensions, padded with half the kernel's size."""

    kernel_size: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> jax.Array:
        """``[..., *space, C]`` to ``[..., *⌈space / strides⌉, C]``; kernel ``[*kernel_size, 1, C]``."""
        kernel = self.param("kernel", he_fan_out, (*self.kernel_size, 1, x.shape[-1]), jnp.float32)
        padding = [size // 2 for size in self.kernel_size]
        return depthwise_conv(x.astype(self.dtype), kernel.astype(self.dtype), self.strides, padding)


class Dense(nn.Module):
    """Linear layer over the last axis, with PyTorch's default initialisation of kernel and bias."""

    features: int
    use_bias: bool = True
    kernel_init: Initializer = torch_uniform
    bias_init: Initializer | None = None
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> jax.Array:
        """``[..., C]`` to ``[..., features]`` in ``dtype``."""
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features), jnp.float32)
        y = x.astype(self.dtype) @ kernel.astype(self.dtype)
        if not self.use_bias:
            return y
        bias = self.param("bias", self.bias_init or _uniform(x.shape[-1]), (self.features,), jnp.float32)
        # The sum over a batch that is the bias' gradient: in float32.
        return (y.astype(jnp.float32) + bias.reshape((1,) * (y.ndim - 1) + (-1,))).astype(self.dtype)


class BatchNorm(nn.Module):
    """Batch normalisation over all axes but the last, as in PyTorch.

    In training it normalises with the biased variance of the batch and keeps the unbiased one:
    ``running = (1 − momentum) · running + momentum · batch``. Statistics are float32 whatever ``dtype`` is;
    with ``axis_name`` they are those of all devices on that axis (synchronised batch norm).
    """

    momentum: float = 0.1
    epsilon: float = 1e-5
    axis_name: str | None = None
    scale_init: Initializer = nn.initializers.ones
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array, train: bool) -> jax.Array:
        """``[..., C]`` to the same in ``dtype``. Raises UserError in training for one value per channel."""
        width = (x.shape[-1],)
        scale = self.param("scale", self.scale_init, width, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, width, jnp.float32)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, width, jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, width, jnp.float32)
        # Once for both uses below: their gradients nearly cancel, and are to be summed before they are rounded.
        x = x.astype(jnp.float32)
        if not train:
            return self._normalise(x, running_mean.value, running_var.value, scale, bias)
        mean, var, count = self._batch_statistics(x)
        if not self.is_initializing():
            keep = 1 - self.momentum
            running_mean.value = keep * running_mean.value + self.momentum * mean
            running_var.value = keep * running_var.value + self.momentum * count / (count - 1) * var
        return self._normalise(x, mean, var, scale, bias)

    def _batch_statistics(self, x: jax.Array) -> tuple[jax.Array, jax.Array, int]:
        axis_name = None if self.is_initializing() else self.axis_name
        count = math.prod(x.shape[:-1]) * (lax.axis_size(axis_name) if axis_name else 1)
        if count < 2:
            raise UserError(
                f"batch norm in training got one value per channel (shape {x.shape}): take a larger batch"
            )

        def average(values: jax.Array) -> jax.Array:
            return lax.pmean(values.mean(0), axis_name) if axis_name else values.mean(0)

        x = x.reshape(-1, x.shape[-1])
        mean = average(x)
        # Not the mean of squares less the squared mean: that loses all digits where the mean is large. The variance
        # is stationary in the mean, so its gradient needs no way through it: a quarter less work backward.
        return mean, average(jnp.square(x - lax.stop_gradient(mean)[None])), count

    def _normalise(
        self, x: jax.Array, mean: jax.Array, var: jax.Array, scale: jax.Array, bias: jax.Array
    ) -> jax.Array:
        gain = scale * lax.rsqrt(var + self.epsilon)
        along = (None,) * (x.ndim - 1)
        return (x * gain[along] + (bias - mean * gain)[along]).astype(self.dtype)


class Dropout(nn.Module):
    """Dropout whose mask is a function of the video's own key and of this layer's name alone.

    So the mask of a video does not depend on which device, or with which other videos, it is computed.
    """

    rate: float

    @nn.compact
    def __call__(self, x: Array, keys: Array | None, train: bool) -> jax.Array:
        """``[B, ...]`` with typed keys ``[B]`` (None: identity); what stays is scaled by 1 / (1 − rate)."""
        if not train or keys is None or self.rate == 0:
            return x
        layer = np.uint32(zlib.crc32("/".join(self.path).encode()))
        stay = 1 - self.rate

        def keep(key: jax.Array) -> jax.Array:
            return jax.random.bernoulli(jax.random.fold_in(key, layer), stay, x.shape[1:])

        return jnp.where(jax.vmap(keep)(keys), x / stay, jnp.zeros_like(x))


def rematerialised(block: type[nn.Module], name: str, pattern: str) -> type[nn.Module]:
    """``block``, or the same computed again in the backward pass where the regex ``pattern`` matches all of ``name``.

    That keeps a block's input in memory instead of all that is in between. Blocks are called with ``(x, train)``.
    """
    again = pattern and re.fullmatch(pattern, name)
    return nn.remat(block, static_argnums=(2,)) if again else block


class FrameEncoder(nn.Module):
    """The arguments that all 2-D encoders share.

    Called with floats ``[B, T, H, W, 3]`` and ``train`` (batch norm by the statistics of the batch), an encoder returns
    ``FrameFeatures``. Those of a frame depend on it alone, unless ``shift`` (TSM) mixes in its neighbours in time.
    """

    width: float = 1.0
    """Multiplies all channels."""
    shift: bool = False
    norm: Callable[..., nn.Module] = BatchNorm
    dtype: DTypeLike = jnp.float32
    remat: str = ""
    """Of ``rematerialised``."""


def _uniform(fan_in: int) -> Initializer:
    # PyTorch's default for a bias depends on the width of the kernel's input, which its own shape does not tell.
    bound = fan_in**-0.5
    return lambda key, shape, dtype: jax.random.uniform(key, shape, dtype, -bound, bound)

"""ResNet (He et al., CVPR 2016; stride in the 3×3 convolution), with a temporal shift where asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from adafocus_jax.models.layers import (
    BatchNorm,
    Conv,
    FrameFeatures,
    he_fan_out,
    pool_frames,
    round_channels,
)
from adafocus_jax.ops.temporal_shift import temporal_shift


@dataclass(frozen=True)
class ResNetSettings:
    """A member of the family: its stem, the kind of its blocks, and its stages."""

    stages: tuple[tuple[int, int, int], ...]
    """Rows of (width of the 3×3 convolutions, blocks, stride of the first)."""
    bottleneck: bool = False
    """Blocks of 1×1, 3×3, 1×1 with 4 × width channels out, instead of two 3×3."""
    stem: int = 64
    stem_kernel: int = 7
    stem_stride: int = 2
    stem_pool: bool = True
    """Max pooling of stride 2 after the stem."""


RESNET18 = ResNetSettings(((64, 2, 1), (128, 2, 2), (256, 2, 2), (512, 2, 2)))
RESNET50 = ResNetSettings(((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)), bottleneck=True)
RESNET_TINY = ResNetSettings(
    ((32, 1, 2), (48, 1, 2), (64, 1, 2)), stem=16, stem_kernel=3, stem_stride=1, stem_pool=False
)
"""Stride 8, 64 features: for small patches, demonstrations and tests."""


class ResidualBlock(nn.Module):
    """Convolutions, summed with their input (projected where its shape differs), then ReLU."""

    width: int
    stride: int
    bottleneck: bool
    shift: bool
    norm: Callable[..., nn.Module]
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """``[B, T, H, W, C]`` to ``[B, T, ⌈H / stride⌉, ⌈W / stride⌉, width or 4 · width]``."""
        features = 4 * self.width if self.bottleneck else self.width
        layers = [(self.width, 3, self.stride), (self.width, 3, 1)]
        if self.bottleneck:
            layers = [(self.width, 1, 1), (self.width, 3, self.stride), (features, 1, 1)]
        y = temporal_shift(x) if self.shift else x
        for number, (channels, size, stride) in enumerate(layers, start=1):
            y = nn.relu(y) if number > 1 else y
            y = self._conv(channels, size, stride, f"conv{number}")(y)
            y = self.norm(dtype=self.dtype, name=f"bn{number}")(y, train)
        if x.shape[-1] != features or self.stride != 1:
            x = self._conv(features, 1, self.stride, "downsample")(x)
            x = self.norm(dtype=self.dtype, name="downsample_bn")(x, train)
        return nn.relu(x + y)

    def _conv(self, channels: int, size: int, stride: int, name: str) -> Conv:
        return Conv(
            channels, (size, size), stride, size // 2, kernel_init=he_fan_out, dtype=self.dtype, name=name
        )


class ResNet(nn.Module):
    """Encoder of frames ``[B, T, H, W, 3]``. With ``shift`` (TSM) a frame sees its neighbours in time.

    The shift stands at the start of every block's residual branch. ``width`` multiplies all channels.
    """

    width: float = 1.0
    settings: ResNetSettings = RESNET50
    shift: bool = False
    norm: Callable[..., nn.Module] = BatchNorm
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, frames: jax.Array, train: bool) -> FrameFeatures:
        """Features of each frame; maps are 1/32 of the frame's size, rounded up, in the full network."""
        s = self.settings
        size = s.stem_kernel
        x = Conv(
            round_channels(s.stem * self.width),
            (size, size),
            s.stem_stride,
            size // 2,
            kernel_init=he_fan_out,
            dtype=self.dtype,
            name="conv1",
        )(frames)
        x = nn.relu(self.norm(dtype=self.dtype, name="bn1")(x, train))
        if s.stem_pool:
            x = nn.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        for stage, (width, blocks, stride) in enumerate(s.stages, start=1):
            for block in range(blocks):
                x = ResidualBlock(
                    round_channels(width * self.width),
                    stride if block == 0 else 1,
                    s.bottleneck,
                    self.shift,
                    self.norm,
                    self.dtype,
                    name=f"layer{stage}_{block}",
                )(x, train)
        return pool_frames(x)

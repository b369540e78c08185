"""ResNet (He et al., CVPR 2016; stride in the 3×3 convolution), with a temporal shift where asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
from flax import linen as nn

from adafocus_jax.models.layers import (
    BatchNorm,
    Conv,
    FrameEncoder,
    FrameFeatures,
    pool_frames,
    rematerialised,
    round_channels,
)
from adafocus_jax.ops.temporal_shift import temporal_shift
from adafocus_jax.types import Array


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
    conv: Callable[..., nn.Module] = Conv
    norm: Callable[..., nn.Module] = BatchNorm

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
            y = self.conv(channels, size, stride, name=f"conv{number}")(y)
            y = self.norm(name=f"bn{number}")(y, train)
        if x.shape[-1] != features or self.stride != 1:
            x = self.conv(features, 1, self.stride, name="downsample")(x)
            x = self.norm(name="downsample_bn")(x, train)
        return nn.relu(x + y)


class ResNet(FrameEncoder):
    """Encoder of frames ``[B, T, H, W, 3]``; maps are 1/32 of the frame's size, rounded up, in the full network.

    The shift stands at the start of every block's residual branch.
    """

    settings: ResNetSettings = RESNET50

    @nn.compact
    def __call__(self, frames: Array, train: bool) -> FrameFeatures:
        """Features of each frame, all frames at once."""
        s = self.settings
        conv, norm = partial(Conv, dtype=self.dtype), partial(self.norm, dtype=self.dtype)
        x = conv(round_channels(s.stem * self.width), s.stem_kernel, s.stem_stride, name="conv1")(frames)
        x = nn.relu(norm(name="bn1")(x, train))
        if s.stem_pool:
            x = _max_pool(x)
        for stage, (width, blocks, stride) in enumerate(s.stages, start=1):
            for block in range(blocks):
                name = f"layer{stage}_{block}"
                x = rematerialised(ResidualBlock, name, self.remat)(
                    round_channels(width * self.width),
                    stride if block == 0 else 1,
                    s.bottleneck,
                    self.shift,
                    conv,
                    norm,
                    name=name,
                )(x, train)
        return pool_frames(x)


def _max_pool(x: jax.Array) -> jax.Array:
    # Of kernel 3, stride 2, padding 1. Flax takes explicit padding for a single batch axis only.
    y = nn.max_pool(x.reshape(-1, *x.shape[2:]), (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
    return y.reshape(*x.shape[:2], *y.shape[1:])

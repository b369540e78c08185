"""MobileNetV2 (Sandler et al., CVPR 2018), with a temporal shift where asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import jax
from flax import linen as nn

from adafocus_jax.models.layers import (
    BatchNorm,
    Conv,
    DepthwiseConv,
    FrameEncoder,
    FrameFeatures,
    pool_frames,
    rematerialised,
    round_channels,
)
from adafocus_jax.ops.temporal_shift import temporal_shift
from adafocus_jax.types import Array


@dataclass(frozen=True)
class MobileNetV2Settings:
    """A member of the family: width of the stem, its blocks, and width of the last 1×1 convolution."""

    stem: int
    blocks: tuple[tuple[int, int, int, int], ...]
    """Rows of (expansion, channels, repeats, stride of the first)."""
    last: int


MOBILENET_V2 = MobileNetV2Settings(
    stem=32,
    blocks=(
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ),
    last=1280,
)
MOBILENET_V2_TINY = MobileNetV2Settings(stem=16, blocks=((1, 8, 1, 1), (6, 16, 1, 2), (6, 24, 1, 2)), last=64)
"""Stride 8, 64 features: for small frames, demonstrations and tests."""


class InvertedResidual(nn.Module):
    """1×1 expansion, 3×3 depthwise, 1×1 projection; summed with the input where shapes agree."""

    features: int
    expansion: int
    stride: int
    shift: bool
    conv: Callable[..., nn.Module] = Conv
    depthwise: Callable[..., nn.Module] = DepthwiseConv
    norm: Callable[..., nn.Module] = BatchNorm

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """``[B, T, H, W, C]`` to ``[B, T, ⌈H / stride⌉, ⌈W / stride⌉, features]``."""
        residual = self.stride == 1 and x.shape[-1] == self.features
        hidden = x.shape[-1] * self.expansion
        y = x
        if self.expansion > 1:
            y = temporal_shift(x) if self.shift and residual else x
            y = self.conv(hidden, 1, name="expand")(y)
            y = nn.relu6(self.norm(name="expand_bn")(y, train))
        y = self.depthwise((3, 3), (self.stride,) * 2, name="depthwise")(y)
        y = nn.relu6(self.norm(name="depthwise_bn")(y, train))
        y = self.conv(self.features, 1, name="project")(y)
        y = self.norm(name="project_bn")(y, train)
        return x + y if residual else y


class MobileNetV2(FrameEncoder):
    """Encoder of frames ``[B, T, H, W, 3]``; maps are 1/32 of the frame's size, rounded up, in the full network.

    The shift stands before the expansion of every block that has both an expansion and a residual sum.
    """

    settings: MobileNetV2Settings = MOBILENET_V2

    @nn.compact
    def __call__(self, frames: Array, train: bool) -> FrameFeatures:
        """Features of each frame, all frames at once."""
        conv, norm = partial(Conv, dtype=self.dtype), partial(self.norm, dtype=self.dtype)
        depthwise = partial(DepthwiseConv, dtype=self.dtype)
        x = conv(round_channels(self.settings.stem * self.width), 3, 2, name="stem")(frames)
        x = nn.relu6(norm(name="stem_bn")(x, train))
        for number, (expansion, channels, stride) in enumerate(_blocks(self.settings), start=1):
            x = rematerialised(InvertedResidual, f"block{number}", self.remat)(
                round_channels(channels * self.width),
                expansion,
                stride,
                self.shift,
                conv,
                depthwise,
                norm,
                name=f"block{number}",
            )(x, train)
        last = round_channels(self.settings.last * max(1.0, self.width))
        x = conv(last, 1, name="last")(x)
        return pool_frames(nn.relu6(norm(name="last_bn")(x, train)))


def _blocks(settings: MobileNetV2Settings) -> Iterator[tuple[int, int, int]]:
    for expansion, channels, repeats, stride in settings.blocks:
        for repeat in range(repeats):
            yield expansion, channels, stride if repeat == 0 else 1

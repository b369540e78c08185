"""X3D (Feichtenhofer, CVPR 2020), the network of the SlowFast code base."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from adafocus_jax.models.layers import (
    BatchNorm,
    Conv,
    Dense,
    DepthwiseConv,
    Dropout,
    FrameFeatures,
    he_fan_out,
    pool_frames,
    rematerialised,
    round_channels,
)
from adafocus_jax.types import Array

EXPANSION = 2.25
"""Inner channels of a block, and of the last layer, per channel of its stage."""
SQUEEZE = 1 / 16
"""Hidden units of squeeze-excite per inner channel, rounded to eights."""


@dataclass(frozen=True)
class X3DSettings:
    """A member of the family. Every stage halves the frame; none halves time."""

    depth: float
    """Multiplies ``blocks``, rounded up."""
    channels: tuple[int, ...] = (24, 48, 96, 192)
    """Width of each stage; the stem is as wide as the first."""
    blocks: tuple[int, ...] = (1, 2, 5, 3)


X3D_S = X3DSettings(depth=2.2)
"""Also X3D-M: they differ in their input alone."""
X3D_L = X3DSettings(depth=5.0)
X3D_TINY = X3DSettings(depth=1.0, channels=(8, 16), blocks=(1, 2))
"""Stride 8, 36 features: for small frames and tests."""


class SqueezeExcite(nn.Module):
    """Scales channels by ``sigmoid(W₂ relu(W₁ mean))``, the mean being over time and space."""

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """``[B, T, H, W, C]`` to the same."""
        channels = x.shape[-1]
        squeezed = x.mean(axis=(1, 2, 3), dtype=jnp.float32)
        hidden = nn.relu(self._dense(round_channels(channels * SQUEEZE), "reduce")(squeezed))
        gain = nn.sigmoid(self._dense(channels, "expand")(hidden).astype(jnp.float32))
        return (x.astype(jnp.float32) * gain[:, None, None, None, :]).astype(x.dtype)

    def _dense(self, features: int, name: str) -> Dense:
        zeros = nn.initializers.zeros
        return Dense(features, kernel_init=he_fan_out, bias_init=zeros, dtype=self.dtype, name=name)


class X3DBlock(nn.Module):
    """1×1×1 expansion, 3×3×3 depthwise, squeeze-excite where asked for, swish, 1×1×1 projection; sum; ReLU."""

    features: int
    stride: int
    excite: Callable[..., nn.Module] | None
    """Makes the squeeze-excite; None: without."""
    conv: Callable[..., nn.Module] = Conv
    depthwise: Callable[..., nn.Module] = DepthwiseConv
    norm: Callable[..., nn.Module] = BatchNorm

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """``[B, T, H, W, C]`` to ``[B, T, ⌈H / stride⌉, ⌈W / stride⌉, features]``."""
        y = self.conv(int(EXPANSION * self.features), 1, name="expand")(x)
        y = nn.relu(self.norm(name="expand_bn")(y, train))
        strides = (1, self.stride, self.stride)
        y = self.depthwise((3, 3, 3), strides, name="depthwise")(y)
        y = self.norm(name="depthwise_bn")(y, train)
        if self.excite:
            y = self.excite(name="squeeze_excite")(y)
        y = self.conv(self.features, 1, name="project")(nn.swish(y))
        # Zero at first, so that every block begins as the identity.
        zero = nn.initializers.zeros
        y = self.norm(scale_init=zero, name="project_bn")(y, train)
        if x.shape[-1] != self.features or self.stride != 1:
            x = self.conv(self.features, 1, self.stride, name="shortcut")(x)
            x = self.norm(name="shortcut_bn")(x, train)
        return nn.relu(x + y)


class X3D(nn.Module):
    """Encoder of videos ``[B, T, H, W, 3]``; maps keep T and are 1/32 of the frame's size in S, M and L."""

    width: float = 1.0
    """Multiplies all channels."""
    settings: X3DSettings = X3D_S
    norm: Callable[..., nn.Module] = BatchNorm
    dtype: DTypeLike = jnp.float32
    remat: str = ""
    """Of ``rematerialised``."""

    @nn.compact
    def __call__(self, frames: Array, train: bool) -> FrameFeatures:
        """Features of each frame, which see their neighbours in time. 432 wide in S, M and L."""
        widths = [round_channels(channels * self.width) for channels in self.settings.channels]
        conv, norm = partial(Conv, dtype=self.dtype), partial(self.norm, dtype=self.dtype)
        depthwise, excite = partial(DepthwiseConv, dtype=self.dtype), partial(SqueezeExcite, dtype=self.dtype)
        x = conv(widths[0], 3, 2, name="stem_space")(frames)
        x = depthwise((5, 1, 1), (1, 1, 1), name="stem_time")(x)
        x = nn.relu(norm(name="stem_bn")(x, train))
        for stage, (features, blocks) in enumerate(zip(widths, self.settings.blocks, strict=True), start=1):
            for block in range(math.ceil(self.settings.depth * blocks)):
                name = f"stage{stage}_{block}"
                x = rematerialised(X3DBlock, name, self.remat)(
                    features,
                    2 if block == 0 else 1,
                    excite if block % 2 == 0 else None,
                    conv,
                    depthwise,
                    norm,
                    name=name,
                )(x, train)
        x = conv(int(EXPANSION * widths[-1]), 1, name="last")(x)
        return pool_frames(nn.relu(norm(name="last_bn")(x, train)))


class X3DHead(nn.Module):
    """X3D's classifier: linear to ``hidden`` without bias, ReLU, dropout, linear to ``num_classes``."""

    num_classes: int
    hidden: int = 2048
    dropout: float = 0.5
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, features: Array, keys: Array | None, train: bool) -> jax.Array:
        """``[B, ..., D]`` and dropout keys ``[B]`` to float32 logits ``[B, ..., K]``."""
        dense = partial(Dense, dtype=self.dtype)
        x = dense(self.hidden, use_bias=False, kernel_init=he_fan_out, name="hidden")(features)
        x = Dropout(self.dropout, name="dropout")(nn.relu(x), keys, train)
        small, zero = nn.initializers.normal(0.01), nn.initializers.zeros
        x = dense(self.num_classes, kernel_init=small, bias_init=zero, name="logits")(x)
        return x.astype(jnp.float32)

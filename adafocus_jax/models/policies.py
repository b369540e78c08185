"""Where to look and when: the spatial and the temporal policy (paper, section on network architecture)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn

from adafocus_jax.models.layers import BatchNorm, Dense, torch_uniform
from adafocus_jax.types import Array

Norm = Callable[..., nn.Module]


class TimeConv(nn.Module):
    """Convolution over three frames (and, with ``space=3``, 3×3 pixels), zero padded, without bias.

    The three time taps are concatenated along channels, so that a 3-D convolution becomes a 2-D one and a 1-D
    convolution a matrix product: twice as fast on CPU, and never slower elsewhere.
    """

    features: int
    space: int = 1
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """``[B, T, h, w, C]`` to ``[B, T, h, w, features]``; kernel ``[3, space, space, C, features]``."""
        channels, frames = x.shape[-1], x.shape[1]
        shape = (3, self.space, self.space, channels, self.features)
        kernel = self.param("kernel", torch_uniform, shape, jnp.float32).astype(self.dtype)
        x = jnp.pad(x.astype(self.dtype), ((0, 0), (1, 1), (0, 0), (0, 0), (0, 0)))
        taps = jnp.concatenate([x[:, tap : tap + frames] for tap in range(3)], axis=-1)
        kernel = jnp.moveaxis(kernel, 0, 2).reshape(self.space, self.space, 3 * channels, self.features)
        if self.space == 1:
            return taps @ kernel[0, 0]
        flat = taps.reshape(-1, *taps.shape[2:])
        out = jax.lax.conv_general_dilated(
            flat, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return out.reshape(*taps.shape[:2], *out.shape[1:])


class WindowDense(nn.Module):
    """A convolution whose kernel covers the whole window ``[t, h, w]``, without bias, as one product."""

    features: int
    per_video: bool
    kernel_init: Callable[..., Array]
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """``[B, T, h, w, C]`` to ``[B, T, features]``, or ``[B, 1, features]`` with ``per_video``."""
        frames = x.shape[1] if self.per_video else 1
        shape = (frames, *x.shape[2:], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32).astype(self.dtype)
        windows = x.astype(self.dtype).reshape(x.shape[0], x.shape[1] // frames, -1)
        return windows @ kernel.reshape(-1, self.features)


def _scaled(scale: float) -> Callable[..., Array]:
    """PyTorch's default for a kernel that is one window wide, times ``scale``."""

    def init(key: Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> Array:
        fan_in = 1
        for extent in shape[:-1]:
            fan_in *= extent
        return scale * jax.random.uniform(key, shape, dtype, -1, 1) / fan_in**0.5

    return init


class SpatialPolicy(nn.Module):
    """``π_S``: an action (y, x, size_y, size_x) in (0, 1)⁴ per glance frame, or one per video.

    1×1×1 convolution to ``hidden``, batch norm, ReLU; twice 3×3×3, batch norm, ReLU; a kernel as large as the map
    (and, per video, as long as the glance) to 4; sigmoid. The caller stops the gradient of the feature maps.
    """

    hidden: int = 128
    per_video: bool = False
    last_scale: float = 1.0
    """Scale of the last kernel at initialisation; below 1, actions start nearer to the centre."""
    norm: Norm = BatchNorm
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, maps: Array, train: bool) -> Array:
        """``[B, G, h, w, D]`` to float32 ``[B, G, 4]`` (``[B, 1, 4]`` per video)."""
        norm = partial(self.norm, dtype=self.dtype)
        x = Dense(self.hidden, use_bias=False, dtype=self.dtype, name="conv1")(maps)
        x = nn.relu(norm(name="norm1")(x, train))
        for layer in (2, 3):
            x = TimeConv(self.hidden, space=3, dtype=self.dtype, name=f"conv{layer}")(x)
            x = nn.relu(norm(name=f"norm{layer}")(x, train))
        # In float32 whatever dtype is, as the last layer of the classifier's heads: places are not to be rounded.
        return nn.sigmoid(WindowDense(4, self.per_video, _scaled(self.last_scale), name="conv4")(x))


class TemporalPolicy(nn.Module):
    """``π_T``: a logit per glance frame; its softmax is the density from which focus frames are drawn.

    Convolution over 3 frames to ``hidden``, batch norm, ReLU, twice; then 1 to 1. No bias.
    """

    hidden: int = 64
    norm: Norm = BatchNorm
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, features: Array, train: bool) -> Array:
        """``[B, G, D]`` to float32 ``[B, G]``."""
        norm = partial(self.norm, dtype=self.dtype)
        x = features[:, :, None, None, :]
        for layer in (1, 2):
            x = TimeConv(self.hidden, dtype=self.dtype, name=f"conv{layer}")(x)
            x = nn.relu(norm(name=f"norm{layer}")(x, train))
        return Dense(1, use_bias=False, name="conv3")(x)[:, :, 0, 0, 0]  # in float32, as above


def interpolate_actions(actions: Array, indices: Array, num_candidates: int) -> Array:
    """Actions of chosen frames: linear between those of the glance frames, constant beyond the first and the last.

    Glance frame g stands at candidate ``(g + ½) · N/G − ½``. A video's single action goes to all its frames.

    Args:
      actions: ``[B, G or 1, 4]``.
      indices: ``[B, F]`` int32 in 0…N−1.
      num_candidates: ``N``.

    Returns:
      ``[B, F, 4]`` float32.

    Example:
      >>> interpolate_actions(jnp.array([[[0.0], [1.0]]]), jnp.array([[0, 1, 2, 3]]), 4)[0, :, 0].tolist()
      [0.0, 0.25, 0.75, 1.0]
    """
    places = actions.shape[1]
    at = (indices.astype(jnp.float32) + 0.5) * (places / num_candidates) - 0.5
    distance = jnp.abs(
        jnp.clip(at, 0, places - 1)[..., None] - jnp.arange(places, dtype=jnp.float32)[None, None]
    )
    mix = jax.nn.relu(1 - distance)
    # Not a product of matrices, which accelerators would round.
    return jnp.sum(mix[..., None] * actions[:, None], axis=2)


def control_actions(positions: Array, size_action: float, *, gaussian: bool) -> Array:
    """Actions of boxes of one size where a control puts them, instead of the spatial policy.

    Args:
      positions: ``[B, G or 1, 2]`` (y, x) in [0, 1): ½ is the centre, uniform values lie anywhere.
      size_action: of both sides.
      gaussian: takes the positions for the quantiles of a normal distribution around the centre, deviation 1/6.

    Returns:
      ``[B, G or 1, 4]`` float32.
    """
    if gaussian:
        spread = jnp.sqrt(2.0) / 6 * jax.scipy.special.erfinv(2 * positions - 1)
        positions = jnp.clip(0.5 + spread, 0, 1)
    return jnp.concatenate([positions, jnp.full_like(positions, size_action)], axis=-1)

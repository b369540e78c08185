"""The method's arithmetic as pure functions of arrays: no modules, no parameters, no hidden randomness."""

from adafocus_jax.ops.depthwise import depthwise_conv
from adafocus_jax.ops.frame_selection import (
    Selection,
    draw_probability,
    select_frames,
    straight_through_gate,
    straight_through_pixels,
)
from adafocus_jax.ops.normalize import MEAN, STD, normalize_frames
from adafocus_jax.ops.patch_crop import CropMethod, boxes_from_actions, crop_patches
from adafocus_jax.ops.platform import PLATFORMS, lowering_for, target_platform
from adafocus_jax.ops.temporal_logits import (
    exact_coefficients,
    expected_logits,
    monte_carlo_coefficients,
    num_rounds,
)
from adafocus_jax.ops.temporal_shift import temporal_shift

__all__ = [
    "MEAN",
    "PLATFORMS",
    "STD",
    "CropMethod",
    "Selection",
    "boxes_from_actions",
    "crop_patches",
    "depthwise_conv",
    "draw_probability",
    "exact_coefficients",
    "expected_logits",
    "lowering_for",
    "monte_carlo_coefficients",
    "normalize_frames",
    "num_rounds",
    "select_frames",
    "straight_through_gate",
    "straight_through_pixels",
    "target_platform",
    "temporal_shift",
]

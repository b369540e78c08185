"""The networks: ``create_model`` by name, ``init_variables``, ``sample_draws`` for one step's randomness."""

from adafocus_jax.models.draws import sample_draws
from adafocus_jax.models.layers import FrameFeatures
from adafocus_jax.models.registry import (
    ENCODERS,
    HEADS,
    MODELS,
    ModelSpec,
    VideoModel,
    create_model,
    init_variables,
    model_defaults,
    register_encoder,
    register_head,
    variable_shapes,
)

__all__ = [
    "ENCODERS",
    "HEADS",
    "FrameFeatures",
    "MODELS",
    "ModelSpec",
    "VideoModel",
    "create_model",
    "init_variables",
    "model_defaults",
    "register_encoder",
    "register_head",
    "sample_draws",
    "variable_shapes",
]

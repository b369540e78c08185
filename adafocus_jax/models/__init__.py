"""The networks: ``create_model`` by name, ``init_variables``, ``sample_draws`` for one step's randomness."""

from adafocus_jax.models.draws import sample_draws
from adafocus_jax.models.registry import (
    ENCODERS,
    HEADS,
    MODELS,
    ModelSpec,
    VideoModel,
    create_model,
    init_variables,
    model_defaults,
)

__all__ = [
    "ENCODERS",
    "HEADS",
    "MODELS",
    "ModelSpec",
    "VideoModel",
    "create_model",
    "init_variables",
    "model_defaults",
    "sample_draws",
]

"""The networks: ``create_model`` by name, ``init_variables``, ``sample_draws`` for one step's randomness."""

from adafocus_jax.models.adafocus import AdaFocus
from adafocus_jax.models.draws import sample_draws
from adafocus_jax.models.layers import FrameFeatures
from adafocus_jax.models.mobilenet_v2 import MobileNetV2
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
from adafocus_jax.models.resnet import ResNet
from adafocus_jax.models.two_exit import TwoExitAdaFocus
from adafocus_jax.models.uni_adafocus import UniAdaFocus
from adafocus_jax.models.video_classifier import VideoClassifier
from adafocus_jax.models.x3d import X3D

__all__ = [
    "ENCODERS",
    "HEADS",
    "MODELS",
    "X3D",
    "AdaFocus",
    "FrameFeatures",
    "MobileNetV2",
    "ModelSpec",
    "ResNet",
    "TwoExitAdaFocus",
    "UniAdaFocus",
    "VideoClassifier",
    "VideoModel",
    "create_model",
    "init_variables",
    "model_defaults",
    "register_encoder",
    "register_head",
    "sample_draws",
    "variable_shapes",
]

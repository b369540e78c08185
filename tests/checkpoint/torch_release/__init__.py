"""The release in PyTorch, written for the tests from its published equations, under its names: what we are held to.

Nothing here is shared with the package. Videos are ``[B, T, 3, H, W]`` floats, normalised.
"""

from .encoders import X3D, MobileNetV2, ResNet
from .losses import loss_terms
from .models import (
    PooledClassifier,
    PooledExits,
    Sizes,
    SpatialPolicy,
    TemporalPolicy,
    TwoHeadsTSM,
    TwoHeadsX3D,
)
from .ops import boxes_of, crop, spread_actions

__all__ = [
    "X3D",
    "MobileNetV2",
    "PooledClassifier",
    "PooledExits",
    "ResNet",
    "Sizes",
    "SpatialPolicy",
    "TemporalPolicy",
    "TwoHeadsTSM",
    "TwoHeadsX3D",
    "boxes_of",
    "crop",
    "loss_terms",
    "spread_actions",
]

"""The release in PyTorch, written for the tests from its published equations, under its names: what we are held to.

Nothing here is shared with the package. Videos are ``[B, T, 3, H, W]`` floats, normalised.
"""

from .encoders import X3D, MobileNetV2, ResNet
from .losses import loss_terms
from .models import PooledExits, Sizes, TwoHeadsTSM, TwoHeadsX3D

__all__ = [
    "X3D",
    "MobileNetV2",
    "PooledExits",
    "ResNet",
    "Sizes",
    "TwoHeadsTSM",
    "TwoHeadsX3D",
    "loss_terms",
]

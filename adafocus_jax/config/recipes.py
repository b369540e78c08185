"""How each family of models is trained (paper, implementation details): what a configuration starts from."""

from __future__ import annotations

from dataclasses import dataclass

from adafocus_jax.models import MODELS, create_model, model_defaults
from adafocus_jax.train.optimizer import ParamGroup


@dataclass(frozen=True)
class Recipe:
    """The settings in which families differ."""

    lr: float
    """Learning rate for a batch of ``batch_size``."""
    batch_size: int
    weight_decay: float
    norm_ratio: float
    policy_factor: float
    """Factor of both policies' learning rate."""
    clip_norm: float
    """0: no clipping."""


_UNI = Recipe(0.002, 32, 2e-4, norm_ratio=1.0, policy_factor=0.2, clip_norm=0.0)
_TSM = Recipe(0.02, 64, 1e-3, norm_ratio=0.5, policy_factor=0.2, clip_norm=20.0)
_X3D = Recipe(0.005, 64, 5e-5, norm_ratio=0.5, policy_factor=0.4, clip_norm=20.0)


PUBLISHED_SIZES: dict[str, dict[str, dict[str, int]]] = {
    "uni_adafocus": {"patch_size": {"p96": 96, "p128": 128, "p160": 160, "p192": 192}},
    "uni_adafocus_tsm": {
        "patch_size": {"p96": 96, "p128": 128},
        "num_focus": {"f8": 8, "f12": 12, "f16": 16},
    },
}
"""The sizes in which the paper reports a model: its argument to words for them, by which configurations choose."""


def family_recipe(model: str) -> Recipe:
    """ActivityNet's for models with an exit per frame, Kinetics-400's for X3D, Something-Something V1's for TSM.

    >>> family_recipe("uni_adafocus_tsm").lr, family_recipe("x3d_s").lr
    (0.02, 0.005)

    Raises:
      UserError: an unknown name.
    """
    arguments = model_defaults(model)
    if not MODELS[model].kind.average_frames:
        return _UNI
    return _X3D if arguments["pool_time"] else _TSM


def family_groups(model: str) -> dict[str, ParamGroup]:
    """Groups of parameters by name, in the order in which they are matched.

    >>> {name: group.factor for name, group in family_groups("uni_adafocus_tsm").items()}
    {'glance': 0.5, 'focus': 1.0, 'proxy': 0.5, 'spatial_policy': 0.2, 'temporal_policy': 0.2}
    """
    policies = family_recipe(model).policy_factor
    factors = {"glance": 0.5, "proxy": 0.5, "classifier": 20.0}
    factors |= {"spatial_policy": policies, "temporal_policy": policies}
    whole_frames = create_model(model, num_classes=1).whole_frames
    groups = MODELS[model].kind.parameter_groups(whole_frames)
    return {name: ParamGroup(paths, factors.get(name, 1.0)) for name, paths in groups.items()}

"""Models by name: ``create_model("uni_adafocus", num_classes=200, patch_size=128)``."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, get_args

import jax
import jax.numpy as jnp
from flax import linen as nn

from adafocus_jax.errors import UserError
from adafocus_jax.models.layers import BatchNorm
from adafocus_jax.models.mobilenet_v2 import MOBILENET_V2_TINY, MobileNetV2
from adafocus_jax.models.resnet import RESNET18, RESNET50, RESNET_TINY, ResNet
from adafocus_jax.models.uni_adafocus import SpatialMode, TemporalEstimator, TemporalMode, UniAdaFocus
from adafocus_jax.ops.patch_crop import CropMethod
from adafocus_jax.types import Array, VideoBatch

ENCODERS: dict[str, Callable[..., nn.Module]] = {
    "mobilenet_v2": MobileNetV2,
    "mobilenet_v2_tiny": partial(MobileNetV2, settings=MOBILENET_V2_TINY),
    "resnet18": partial(ResNet, settings=RESNET18),
    "resnet50": partial(ResNet, settings=RESNET50),
    "resnet_tiny": partial(ResNet, settings=RESNET_TINY),
}
"""Name to a function of (width, norm, dtype) that makes an encoder; add your own."""

MODELS: dict[str, dict[str, Any]] = {
    "uni_adafocus": {"global_encoder": "mobilenet_v2", "local_encoder": "resnet50"},
    "uni_adafocus_tiny": {
        "global_encoder": "mobilenet_v2_tiny",
        "local_encoder": "resnet_tiny",
        "num_glance": 8,
        "num_candidates": 16,
        "num_focus": 3,
        "image_size": 96,
        "glance_size": 48,
        "patch_size": 32,
        "side_limits": (1 / 3, 0.4375),
        "policy_hidden": 32,
        "policy_last_scale": 0.22,
        "temporal_hidden": 64,
        "classifier_hidden": 128,
        "dropout": 0.0,
        "head_dropout": 0.0,
    },
}
"""Name to the arguments in which it differs from the fields of ``UniAdaFocus``."""

_CHOICES = {
    "spatial": get_args(SpatialMode),
    "temporal": get_args(TemporalMode),
    "temporal_estimator": get_args(TemporalEstimator),
    "straight_through": ("gate", "pixels"),
    "crop": get_args(CropMethod),
    "dtype": ("float32", "bfloat16"),
}


def create_model(name: str, *, num_classes: int, **arguments: Any) -> UniAdaFocus:
    """A model by name, checked.

    Args:
      name: a key of ``MODELS``.
      num_classes: ``K``.
      **arguments: any field of ``UniAdaFocus`` (``num_glance``, ``num_candidates``, ``num_focus``, ``image_size``,
        ``glance_size``, ``patch_size``, ``side_limits``, ``temporal_estimator``, ``dropout``, …); ``global_encoder``
        and ``local_encoder`` by name in ``ENCODERS``; ``width``, a multiplier of both encoders' channels; ``dtype``
        (``float32`` or ``bfloat16``: type of the activations); ``norm_axis``, the mapped axis over which batch norm is
        synchronised (None: per device).

    Returns:
      An unbound linen module.

    Raises:
      UserError: an unknown name, argument or choice, or sizes that do not fit together.

    Example:
      >>> create_model("uni_adafocus", num_classes=200, patch_size=96).num_focus
      16
    """
    settings = {**model_defaults(name), **arguments}
    _check_names(settings)
    dtype = jnp.dtype(settings.pop("dtype"))
    norm = partial(BatchNorm, axis_name=settings.pop("norm_axis", None))
    make = partial(_make_encoder, width=settings.pop("width"), norm=norm, dtype=dtype)
    settings |= {key: make(settings[key]) for key in ("global_encoder", "local_encoder")}
    settings["side_limits"] = tuple(settings["side_limits"])
    model = UniAdaFocus(num_classes=num_classes, norm=norm, dtype=dtype, **settings)
    _check_sizes(model)
    return model


def model_defaults(name: str) -> dict[str, Any]:
    """All arguments of ``create_model(name)`` but ``num_classes`` and ``norm_axis``, with their defaults.

    Raises:
      UserError: an unknown name.
    """
    if name not in MODELS:
        raise UserError(f"unknown model {name!r}: choose one of {', '.join(MODELS)}")
    structural = {"num_classes", "global_encoder", "local_encoder", "norm", "dtype", "parent", "name"}
    fields = {f.name: f.default for f in dataclasses.fields(UniAdaFocus) if f.name not in structural}
    return {**fields, "width": 1.0, "dtype": "float32", **MODELS[name]}


def init_variables(model: UniAdaFocus, rng: Array) -> dict[str, Any]:
    """Fresh ``{"params", "batch_stats"}``, initialised as the original networks are. Needs no data."""
    frames = jnp.zeros((1, model.num_candidates, model.image_size, model.image_size, 3), jnp.uint8)
    learned = model.clone(spatial="learned", temporal="learned")
    return jax.jit(learned.init)(rng, VideoBatch(frames=frames))


def _make_encoder(name: str, **arguments: Any) -> nn.Module:
    if name not in ENCODERS:
        raise UserError(f"unknown encoder {name!r}: choose one of {', '.join(ENCODERS)}")
    return ENCODERS[name](**arguments)


def _check_names(settings: Mapping[str, Any]) -> None:
    known = {*model_defaults("uni_adafocus"), "norm_axis"}
    for key, value in settings.items():
        if key not in known:
            close = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"choose among {', '.join(sorted(known))}"
            raise UserError(f"unknown model argument {key!r}: {hint}")
        if key in _CHOICES and str(value) not in _CHOICES[key]:
            raise UserError(f"model argument {key}={value!r}: choose one of {', '.join(_CHOICES[key])}")


def _check_sizes(m: UniAdaFocus) -> None:
    low, high = m.side_limits
    smallest = (
        "num_classes",
        "num_glance",
        "num_candidates",
        "num_focus",
        "image_size",
        "glance_size",
        "patch_size",
    )
    complaints = [
        (getattr(m, field) < 1, f"{field}={getattr(m, field)} must be at least 1") for field in smallest
    ]
    complaints += [
        (
            m.num_focus > m.num_candidates,
            f"num_focus={m.num_focus} exceeds num_candidates={m.num_candidates}",
        ),
        (
            m.num_candidates % m.num_glance != 0,
            f"num_candidates={m.num_candidates} must be a multiple of num_glance={m.num_glance}",
        ),
        (m.patch_size > m.image_size, f"patch_size={m.patch_size} exceeds image_size={m.image_size}"),
        (m.glance_size > m.image_size, f"glance_size={m.glance_size} exceeds image_size={m.image_size}"),
        (
            not 0 < low <= high <= 1,
            f"side_limits={m.side_limits} must be fractions of the image, 0 < smallest <= largest <= 1",
        ),
    ]
    for wrong, text in complaints:
        if wrong:
            raise UserError(f"model sizes do not fit: {text}")

"""Models by name: ``create_model("uni_adafocus", num_classes=200, patch_size=128)``."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any, cast, get_args

import jax
import jax.numpy as jnp
from flax import linen as nn

from adafocus_jax.errors import UserError
from adafocus_jax.models.adafocus import (
    AdaFocus,
    SpatialEstimator,
    SpatialMode,
    TemporalEstimator,
    TemporalMode,
)
from adafocus_jax.models.heads import LinearHead
from adafocus_jax.models.layers import BatchNorm
from adafocus_jax.models.mobilenet_v2 import MOBILENET_V2_TINY, MobileNetV2
from adafocus_jax.models.resnet import RESNET18, RESNET50, RESNET_TINY, ResNet
from adafocus_jax.models.two_exit import TwoExitAdaFocus
from adafocus_jax.models.uni_adafocus import UniAdaFocus
from adafocus_jax.models.video_classifier import VideoClassifier
from adafocus_jax.models.x3d import X3D, X3D_L, X3D_S, X3D_TINY, X3DHead
from adafocus_jax.ops.patch_crop import CropMethod
from adafocus_jax.types import Array, VideoBatch

VideoModel = AdaFocus | VideoClassifier
"""Whatever ``create_model`` makes: called with a ``VideoBatch``, it returns a ``ModelOutput``."""

# The shift needs a block with a residual sum.
_SHIFTED_TINY = replace(MOBILENET_V2_TINY, blocks=((1, 8, 1, 1), (6, 16, 2, 2), (6, 24, 1, 2)))

ENCODERS: dict[str, Callable[..., nn.Module]] = {
    "mobilenet_v2": MobileNetV2,
    "mobilenet_v2_tsm": partial(MobileNetV2, shift=True),
    "mobilenet_v2_tiny": partial(MobileNetV2, settings=MOBILENET_V2_TINY),
    "mobilenet_v2_tsm_tiny": partial(MobileNetV2, settings=_SHIFTED_TINY, shift=True),
    "resnet18": partial(ResNet, settings=RESNET18),
    "resnet50": partial(ResNet, settings=RESNET50),
    "resnet50_tsm": partial(ResNet, settings=RESNET50, shift=True),
    "resnet_tiny": partial(ResNet, settings=RESNET_TINY),
    "resnet_tsm_tiny": partial(ResNet, settings=RESNET_TINY, shift=True),
    "x3d_s": partial(X3D, settings=X3D_S),
    "x3d_l": partial(X3D, settings=X3D_L),
    "x3d_tiny": partial(X3D, settings=X3D_TINY),
}
"""Name to what makes an encoder; see ``register_encoder``."""

HEADS: dict[str, Callable[..., nn.Module]] = {
    "linear": LinearHead,
    "x3d": X3DHead,
    "x3d_tiny": partial(X3DHead, hidden=32),
}
"""Name to what makes a head on per-frame features; see ``register_head``."""


@dataclass(frozen=True)
class ModelSpec:
    """A member of the family: its class, and the arguments in which it differs from the fields of that class."""

    kind: type[AdaFocus] | type[VideoClassifier]
    arguments: Mapping[str, Any] = field(default_factory=dict)


_UNI: dict[str, Any] = {"global_encoder": "mobilenet_v2", "local_encoder": "resnet50"}
_TSM: dict[str, Any] = {
    "global_encoder": "mobilenet_v2_tsm",
    "local_encoder": "resnet50_tsm",
    "num_glance": 8,
    "num_candidates": 36,
    "num_focus": 12,
    "dropout": 0.5,
    "head_dropout": 0.5,
}
_X3D: dict[str, Any] = {
    "global_encoder": "x3d_s",
    "local_encoder": "x3d_l",
    "head": "x3d",
    "pool_time": True,
    "num_glance": 16,
    "num_candidates": 96,
    "num_focus": 32,
    "glance_size": 160,
    "dropout": 0.5,
    "head_dropout": 0.5,
}
_X3D_CLASSIFIER: dict[str, Any] = {"head": "x3d", "pool_time": True}
_TINY: dict[str, Any] = {
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
    "dropout": 0.0,
    "head_dropout": 0.0,
}

MODELS: dict[str, ModelSpec] = {
    "uni_adafocus": ModelSpec(UniAdaFocus, _UNI),
    "uni_adafocus_tsm": ModelSpec(TwoExitAdaFocus, _TSM),
    "uni_adafocus_x3d": ModelSpec(TwoExitAdaFocus, _X3D),
    "adafocus": ModelSpec(UniAdaFocus, {**_UNI, "temporal": "uniform"}),
    "two_stream_tsm": ModelSpec(
        TwoExitAdaFocus,
        {
            **_TSM,
            "num_focus": 8,
            "num_candidates": 8,
            "patch_size": 224,
            "side_limits": (1.0, 1.0),
            "spatial": "centre",
            "temporal": "uniform",
        },
    ),
    "tsm_mobilenet_v2": ModelSpec(VideoClassifier, {"encoder": "mobilenet_v2_tsm"}),
    "tsm_resnet50": ModelSpec(VideoClassifier, {"encoder": "resnet50_tsm"}),
    "x3d_s": ModelSpec(
        VideoClassifier, {**_X3D_CLASSIFIER, "encoder": "x3d_s", "num_candidates": 13, "image_size": 160}
    ),
    "x3d_m": ModelSpec(
        VideoClassifier, {**_X3D_CLASSIFIER, "encoder": "x3d_s", "num_candidates": 16, "image_size": 224}
    ),
    "x3d_l": ModelSpec(
        VideoClassifier, {**_X3D_CLASSIFIER, "encoder": "x3d_l", "num_candidates": 16, "image_size": 312}
    ),
    "uni_adafocus_tiny": ModelSpec(
        UniAdaFocus,
        {
            **_TINY,
            "global_encoder": "mobilenet_v2_tiny",
            "local_encoder": "resnet_tiny",
            "classifier_hidden": 128,
        },
    ),
    "uni_adafocus_tsm_tiny": ModelSpec(
        TwoExitAdaFocus,
        {**_TINY, "global_encoder": "mobilenet_v2_tsm_tiny", "local_encoder": "resnet_tsm_tiny"},
    ),
    "uni_adafocus_x3d_tiny": ModelSpec(
        TwoExitAdaFocus,
        {
            **_TINY,
            "global_encoder": "x3d_tiny",
            "local_encoder": "x3d_tiny",
            "head": "x3d_tiny",
            "pool_time": True,
        },
    ),
    "tsm_tiny": ModelSpec(VideoClassifier, {"encoder": "resnet_tsm_tiny", "image_size": 48, "dropout": 0.0}),
    "x3d_tiny": ModelSpec(
        VideoClassifier,
        {"encoder": "x3d_tiny", "head": "x3d_tiny", "pool_time": True, "image_size": 48, "dropout": 0.0},
    ),
}
"""Name to model. ``two_stream_tsm`` is what the paper calls TSM+: both encoders see whole frames, without policies."""

_CHOICES = {
    "spatial": get_args(SpatialMode),
    "temporal": get_args(TemporalMode),
    "spatial_estimator": get_args(SpatialEstimator),
    "temporal_estimator": get_args(TemporalEstimator),
    "straight_through": ("gate", "pixels"),
    "crop": get_args(CropMethod),
    "dtype": ("float32", "bfloat16"),
}


def register_encoder(name: str, make: Callable[..., nn.Module]) -> None:
    """Adds an encoder to ``ENCODERS``, for ``create_model`` and configurations to choose by name.

    Args:
      name: what ``global_encoder``, ``local_encoder`` or ``encoder`` is set to.
      make: from (width, norm, dtype), and remat where that is asked for, to a module that is called with frames
        ``[B, T, H, W, 3]`` and ``train``, and returns ``FrameFeatures``.

    Raises:
      UserError: the name stands for another encoder already.
    """
    _register("encoder", ENCODERS, name, make)


def register_head(name: str, make: Callable[..., nn.Module]) -> None:
    """Adds a head to ``HEADS``, for ``create_model`` and configurations to choose by name.

    Args:
      name: what ``head`` is set to.
      make: from (num_classes, dropout) to a module that is called with features ``[B, ..., D]``, dropout keys ``[B]``
        (or None) and ``train``, and returns float32 logits ``[B, ..., K]``.

    Raises:
      UserError: the name stands for another head already.
    """
    _register("head", HEADS, name, make)


def _register(
    what: str, table: dict[str, Callable[..., nn.Module]], name: str, make: Callable[..., nn.Module]
) -> None:
    if table.setdefault(name, make) is not make:
        raise UserError(f"{what} {name!r} is registered already: choose a name other than {', '.join(table)}")


def create_model(name: str, *, num_classes: int, **arguments: Any) -> VideoModel:
    """A model by name, checked.

    Args:
      name: a key of ``MODELS``.
      num_classes: ``K``.
      **arguments: any field of the model's class (``num_glance``, ``num_candidates``, ``num_focus``, ``image_size``,
        ``glance_size``, ``patch_size``, ``side_limits``, ``spatial``, ``spatial_estimator``, ``temporal``,
        ``temporal_estimator``, ``dropout``, …); ``global_encoder``, ``local_encoder`` (``encoder`` in plain
        classifiers) by name in
        ``ENCODERS``; ``head`` by name in ``HEADS``; ``width``, a multiplier of the encoders' channels; ``dtype``
        (``float32`` or ``bfloat16``: type of the activations); ``remat``, a regex for blocks of the encoders that are
        computed again in the backward pass to save memory (``.*``: all; ``layer[12]_.*``: two stages of a ResNet);
        ``norm_axis``, the mapped axis over which batch norm is synchronised (None: per device).

    Returns:
      An unbound linen module.

    Raises:
      UserError: an unknown name, argument or choice, or sizes that do not fit together.

    Example:
      >>> create_model("uni_adafocus_tsm", num_classes=174, num_focus=8).num_candidates
      24
    """
    settings = {**model_defaults(name), **arguments}
    _check_names(name, settings)
    kind = MODELS[name].kind
    if kind.candidates_per_focus and "num_focus" in arguments and "num_candidates" not in arguments:
        settings["num_candidates"] = kind.candidates_per_focus * settings["num_focus"]
    dtype = jnp.dtype(settings.pop("dtype"))
    norm = _batch_norm(settings.pop("norm_axis", None))
    make = partial(_look_up, "encoder", ENCODERS)
    encoder = {"width": settings.pop("width"), "norm": norm, "dtype": dtype}
    if remat := settings.pop("remat"):  # an encoder without blocks need not know of it
        encoder["remat"] = remat
    for key in ("encoder", "global_encoder", "local_encoder"):
        if key in settings:
            settings[key] = make(settings[key])(**encoder)
    settings["head"] = _look_up("head", HEADS, settings["head"])
    if "side_limits" in settings:
        settings["side_limits"] = tuple(settings["side_limits"])
    if "norm" in {f.name for f in fields(kind)}:
        settings["norm"] = norm
    model = kind(num_classes=num_classes, dtype=dtype, **settings)
    _check_sizes(model)
    return model


def model_defaults(name: str) -> dict[str, Any]:
    """All arguments of ``create_model(name)`` but ``num_classes`` and ``norm_axis``, with their defaults.

    Raises:
      UserError: an unknown name.
    """
    if name not in MODELS:
        raise UserError(f"unknown model {name!r}: choose one of {', '.join(MODELS)}")
    spec = MODELS[name]
    encoders = {"encoder", "global_encoder", "local_encoder"}
    given = {"num_classes", "norm", "dtype", "head", "parent", "name"} | encoders
    defaults = {f.name: f.default for f in fields(spec.kind) if f.name not in given}
    return {**defaults, "head": "linear", "width": 1.0, "dtype": "float32", "remat": "", **spec.arguments}


def init_variables(model: VideoModel, rng: Array) -> dict[str, Any]:
    """Fresh ``{"params", "batch_stats"}``, initialised as the original networks are. Needs no data.

    Controls get the parameters of both policies and of the proxy too, so that all of them run on one checkpoint.
    """

    def frames(count: int) -> Array:
        return jnp.zeros((1, count, model.image_size, model.image_size, 3), jnp.uint8)

    glance = frames(model.num_separate_glance) if model.num_separate_glance else None
    batch = VideoBatch(frames=frames(model.num_candidates), glance=glance)
    # An encoder need not have batch norm.
    return {"batch_stats": {}, **_init_function(model.with_all_parameters())(rng, batch)}


@functools.lru_cache(maxsize=16)
def variable_shapes(model: VideoModel) -> dict[str, Any]:
    """Shapes and dtypes of ``init_variables(model)``."""
    return jax.eval_shape(partial(init_variables, model), jax.random.key(0))


@functools.lru_cache(maxsize=16)
def _init_function(model: VideoModel) -> Callable[..., dict[str, Any]]:
    """The same for the same model, so that shapes and values come of one trace."""
    return cast(Callable[..., dict[str, Any]], jax.jit(model.init))


@functools.cache
def _batch_norm(axis_name: str | None) -> Callable[..., nn.Module]:
    """The same object for the same axis: models made alike are then equal, and what is compiled for one serves all."""
    return partial(BatchNorm, axis_name=axis_name)


def _look_up(what: str, table: Mapping[str, Callable[..., nn.Module]], name: str) -> Callable[..., nn.Module]:
    if name not in table:
        raise UserError(f"unknown {what} {name!r}: choose one of {', '.join(table)}")
    return table[name]


def _check_names(name: str, settings: Mapping[str, Any]) -> None:
    known = {*model_defaults(name), "norm_axis"}
    for key, value in settings.items():
        if key not in known:
            close = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"choose among {', '.join(sorted(known))}"
            raise UserError(f"unknown model argument {key!r}: {hint}")
        if key in _CHOICES and str(value) not in _CHOICES[key]:
            raise UserError(f"model argument {key}={value!r}: choose one of {', '.join(_CHOICES[key])}")


def _check_sizes(model: VideoModel) -> None:
    for name in ("num_classes", "num_candidates", "image_size"):
        if getattr(model, name) < 1:
            raise UserError(f"model sizes do not fit: {name}={getattr(model, name)} must be at least 1")
    for text in model.size_complaints():
        raise UserError(f"model sizes do not fit: {text}")

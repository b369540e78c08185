"""Configurations: the published base, a file and flags that change it, and the arguments that come of it.

A config file has a function ``get_config()`` (``get_config(variant)`` for ``FILE:VARIANT``) that returns a changed
:func:`base_config`. It is locked: a misspelt key is an error. Past :func:`load_config` all is plain values, which are
saved beside the checkpoints, and from which the other functions here make the arguments of the library.
"""

from __future__ import annotations

import difflib
import json
import os
import runpy
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from absl import flags
from ml_collections import ConfigDict, config_flags

from adafocus_jax.data.pipeline import ClipSpec
from adafocus_jax.errors import UserError
from adafocus_jax.losses import uni_adafocus_loss
from adafocus_jax.models import MODELS, VideoModel, create_model, model_defaults
from adafocus_jax.models.adafocus import AdaFocus
from adafocus_jax.models.uni_adafocus import UniAdaFocus
from adafocus_jax.models.video_classifier import VideoClassifier
from adafocus_jax.train.loop import TrainOptions
from adafocus_jax.train.optimizer import OptimizerOptions, ParamGroup
from adafocus_jax.train.step import AXIS, LossFunction
from adafocus_jax.types import VideoBatch

FREE_KEYS = (
    "data.dir",
    "data.num_workers",
    "data.num_threads",
    "train.log_every",
    "train.eval_every",
    "train.checkpoint_every",
)
"""What may change when a run goes on, as it does not change the parameters."""


def base_config(model: str = "uni_adafocus") -> ConfigDict:
    """The published recipe for ActivityNet (paper, implementation details), locked. 0 stands for "not given".

    Args:
      model: a key of ``MODELS``, whose arguments become the settings under ``model``.
    """
    config = ConfigDict()
    config.seed = 0
    # num_classes 0: those of the data
    config.model = ConfigDict({"name": model, "num_classes": 0, **model_defaults(model)})
    config.data = ConfigDict(
        {
            "dir": "",
            "train_split": "train",
            "val_split": "val",
            "resize": 0,  # short side at test; 0: image_size · 256 / 224
            "scales": (1.0, 0.875, 0.75, 0.66),
            "flip": True,
            "num_workers": 0,
            "num_threads": 2,
        }
    )
    config.loss = ConfigDict({"norm_ratio": 1.0, "kl_ratio": 0.0})
    config.optimizer = ConfigDict(
        {
            "lr": 0.002,
            "reference_batch_size": 32,
            "momentum": 0.9,
            "weight_decay": 2e-4,
            "clip_norm": 0.0,  # 0: no clipping
            "warmup_frac": 0.0,
        }
    )
    config.optimizer.groups = ConfigDict(sort_keys=False)
    for name, pattern, factor in _groups(model):
        group = {"pattern": pattern, "factor": factor, "delay_frac": 0.0}
        config.optimizer.groups[name] = ConfigDict(group)
    config.train = ConfigDict(
        {
            "batch_size": 32,
            "epochs": 50.0,
            "steps": 0,  # 0: from epochs
            "parallel": "pmap",
            "sync_batch_norm": False,
            "log_every": 20,
            "eval_every": 0,  # 0: at the end
            "checkpoint_every": 500,
            "best_metric": "top1",
        }
    )
    return config.lock()


def _groups(model: str) -> list[tuple[str, str, float]]:
    """Name, pattern and factor. In order: a parameter belongs to the first group whose pattern its path matches."""
    kind = MODELS[model].kind
    if kind is VideoClassifier:
        return [("all", ".*", 1.0)]
    groups = [
        ("glance", "global_(encoder|head|final_head)/.*", 0.5),
        ("focus", "local_(encoder|head|final_head)/.*", 1.0),
    ]
    if not create_model(model, num_classes=1).whole_frames:
        groups += [
            ("proxy", "proxy_head/.*", 0.5),
            ("spatial_policy", "spatial_policy/.*", 0.2),
            ("temporal_policy", "temporal_policy/.*", 0.2),
        ]
    return groups + [("classifier", "classifier/.*", 20.0)] * (kind is UniAdaFocus)


def load_config(file: str, overrides: Sequence[str] = (), *, needs_data: bool = True) -> dict[str, Any]:
    """Reads ``FILE[:VARIANT]``, applies flags such as ``--config.optimizer.lr=0.1``, and checks every value.

    Without ``needs_data``, ``data.dir`` may be empty.

    Returns:
      Nested dictionaries of what JSON holds; ``data.dir`` absolute.

    Raises:
      UserError: no such file or key, a value of another type or out of range.
    """
    config = _read_file(file)
    _check_keys(config, overrides)
    values = flags.FlagValues()
    argv = ["adafocus", *overrides]
    try:
        config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=argv)
        rest = values(argv)[1:]
    except (flags.Error, TypeError, ValueError) as error:
        raise UserError(" ".join(str(error).split())) from error
    if rest:
        raise UserError(f"unknown argument {rest[0]!r}: change the config with --config.KEY=VALUE")
    settings = dict(json.loads(json.dumps(values.config.to_dict())))
    if settings["data"]["dir"]:
        settings["data"]["dir"] = os.path.abspath(settings["data"]["dir"])
    elif needs_data:
        raise UserError("no data: give --data DIR, the records that adafocus prepare made")
    _check_values(settings)
    return settings


def for_classes(settings: Mapping[str, Any], classes: Sequence[str]) -> dict[str, Any]:
    """The settings completed by the data's class names, under ``classes``, and their number.

    Raises:
      UserError: the config asks for another number of classes.
    """
    wanted = settings["model"]["num_classes"]
    if wanted not in (0, len(classes)):
        raise UserError(
            f"config.model.num_classes is {wanted}, but {settings['data']['dir']} has {len(classes)} classes: "
            "leave it at 0 to take those of the data"
        )
    return {
        **settings,
        "model": {**settings["model"], "num_classes": len(classes)},
        "classes": list(classes),
    }


def make_model(settings: Mapping[str, Any]) -> VideoModel:
    """The model of completed settings, or of those saved beside a checkpoint."""
    norm_axis = AXIS if settings["train"]["sync_batch_norm"] else None
    return create_model(**settings["model"], norm_axis=norm_axis)


def clip_spec(settings: Mapping[str, Any], model: VideoModel) -> ClipSpec:
    """How clips are cut for this model."""
    data = settings["data"]
    return ClipSpec(
        num_candidates=model.num_candidates,
        image_size=model.image_size,
        num_glance=model.num_glance if isinstance(model, AdaFocus) and model.separate_glance else None,
        resize=data["resize"] or None,
        flip=data["flip"],
        scales=tuple(data["scales"]),
    )


def batch_shapes(spec: ClipSpec, batch_size: int) -> VideoBatch:
    """Shapes and dtypes of a global batch of training."""

    def frames(count: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((batch_size, count, spec.image_size, spec.image_size, 3), jnp.uint8)

    return VideoBatch(
        frames=frames(spec.num_candidates),
        glance=frames(spec.num_glance) if spec.num_glance else None,
        label=jax.ShapeDtypeStruct((batch_size,), jnp.int32),
    )


def loss_function(settings: Mapping[str, Any]) -> LossFunction:
    """The loss with its weights."""
    return partial(uni_adafocus_loss, **settings["loss"])


def optimizer_options(settings: Mapping[str, Any]) -> OptimizerOptions:
    """The optimizer's options."""
    options = dict(settings["optimizer"])
    return OptimizerOptions(
        learning_rate=options.pop("lr"),
        groups=tuple(ParamGroup(**group) for group in options.pop("groups").values()),
        clip_norm=options.pop("clip_norm") or None,
        **options,
    )


def train_options(settings: Mapping[str, Any], num_examples: int) -> TrainOptions:
    """The loop's options; ``epochs`` of ``num_examples`` become steps, the last one may be cut short."""
    options = settings["train"]
    steps = options["steps"] or max(1, int(options["epochs"] * num_examples / options["batch_size"]))
    names = ("batch_size", "parallel", "log_every", "eval_every", "checkpoint_every", "best_metric")
    return TrainOptions(num_steps=steps, seed=settings["seed"], **{name: options[name] for name in names})


def _read_file(file: str) -> ConfigDict:
    path, _, variant = file.partition(":")
    if not os.path.isfile(path):
        raise UserError(f"no such config file: {path!r}; give one, e.g. configs/demo.py")
    try:
        config = runpy.run_path(path)["get_config"](*[variant] if variant else [])
    except Exception as error:  # whatever the file does wrong; --debug shows where
        text = " ".join(str(error).split())
        raise UserError(f"config {file} does not load: {type(error).__name__}: {text}") from error
    if not isinstance(config, ConfigDict):
        raise UserError(f"config {file} does not load: get_config() returns no ConfigDict")
    return config.lock()


def _check_keys(config: ConfigDict, overrides: Sequence[str]) -> None:
    for flag in (word for word in overrides if word.startswith("-")):
        at = config
        path = flag.split("=")[0].lstrip("-").split(".")[1:]
        for key in path:
            if not isinstance(at, ConfigDict) or key not in at:
                known = sorted(at) if isinstance(at, ConfigDict) else []
                close = difflib.get_close_matches(key, known, 1)
                hint = (
                    f'Did you mean "{close[0]}" instead of "{key}"?'
                    if close
                    else f"choose among {', '.join(known)}"
                )
                raise UserError(f"unknown config key {'.'.join(path)!r}: {hint}")
            at = at[key]


_AT_LEAST_0: tuple[Callable[[Any], bool], str] = (lambda x: x >= 0, "give 0 or more")
_AT_LEAST_1: tuple[Callable[[Any], bool], str] = (lambda x: x >= 1, "give 1 or more")
_POSITIVE: tuple[Callable[[Any], bool], str] = (lambda x: x > 0, "give a number above 0")
_FRACTION: tuple[Callable[[Any], bool], str] = (lambda x: 0 <= x <= 1, "give a number from 0 to 1")
_VALID: dict[str, tuple[Callable[[Any], bool], str]] = {
    "seed": _AT_LEAST_0,
    "model.num_classes": _AT_LEAST_0,
    "model.side_limits": (
        lambda x: len(x) == 2,
        "give the smallest and the largest side, such as (0.43, 1.0)",
    ),
    "model.width": _POSITIVE,
    "model.temperature": _POSITIVE,
    "model.dropout": (lambda x: 0 <= x < 1, "give 0 or more and less than 1"),
    "model.head_dropout": (lambda x: 0 <= x < 1, "give 0 or more and less than 1"),
    "data.resize": _AT_LEAST_0,
    "data.num_workers": _AT_LEAST_0,
    "data.num_threads": _AT_LEAST_1,
    "loss.norm_ratio": _AT_LEAST_0,
    "loss.kl_ratio": _AT_LEAST_0,
    "optimizer.lr": _POSITIVE,
    "optimizer.reference_batch_size": _AT_LEAST_1,
    "optimizer.momentum": (lambda x: 0 <= x < 1, "give 0 or more and less than 1"),
    "optimizer.weight_decay": _AT_LEAST_0,
    "optimizer.clip_norm": _AT_LEAST_0,
    "optimizer.warmup_frac": _FRACTION,
    "train.batch_size": _AT_LEAST_1,
    "train.epochs": _POSITIVE,
    "train.steps": _AT_LEAST_0,
    "train.parallel": (lambda x: x in ("pmap", "shard_map"), "choose pmap or shard_map"),
    "train.log_every": _AT_LEAST_1,
    "train.eval_every": _AT_LEAST_0,
    "train.checkpoint_every": _AT_LEAST_0,
}
"""Key to a test and what it says of valid values. ``create_model`` and ``ClipSpec`` check the rest."""


def _check_values(settings: Mapping[str, Any]) -> None:
    rules = dict(_VALID)
    for name in settings["optimizer"]["groups"]:
        rules[f"optimizer.groups.{name}.factor"] = _AT_LEAST_0
        rules[f"optimizer.groups.{name}.delay_frac"] = _FRACTION
    for path, (valid, text) in rules.items():
        value: Any = settings
        for key in path.split("."):
            value = value.get(key)
        # A plain classifier has no policies, and so none of their settings.
        if value is not None and not valid(value):
            raise UserError(f"config.{path}={value!r} is not valid: {text}")

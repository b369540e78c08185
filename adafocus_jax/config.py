"""Configurations: the published base, a file and flags that change it, and the arguments that come of it.

A config file has a function ``get_config()`` (``get_config(variant)`` for ``FILE:VARIANT``) that returns a changed
:func:`base_config`. It is locked: a misspelt key is an error. Past :func:`load_config` all is plain values, which are
saved beside the checkpoints, and from which the other functions here make the arguments of the library.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import runpy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from absl import flags
from ml_collections import ConfigDict, config_flags

from adafocus_jax.data.annotations import mirrored_labels
from adafocus_jax.data.clips import ClipSpec
from adafocus_jax.data.storage import absolute
from adafocus_jax.errors import UserError
from adafocus_jax.losses import uni_adafocus_loss
from adafocus_jax.models import MODELS, VideoModel, create_model, model_defaults
from adafocus_jax.models.adafocus import AdaFocus
from adafocus_jax.models.registry import CANDIDATES_PER_FOCUS
from adafocus_jax.models.two_exit import TwoExitAdaFocus
from adafocus_jax.train.loop import TrainOptions
from adafocus_jax.train.optimizer import OptimizerOptions, ParamGroup
from adafocus_jax.train.recipes import PUBLISHED_SIZES, family_groups, family_recipe
from adafocus_jax.train.step import AXIS, LossFunction
from adafocus_jax.types import VideoBatch

FREE_KEYS = (
    "data.dir",
    "data.cache_dir",
    "data.num_workers",
    "data.num_threads",
    "data.on_bad_record",
    "data.max_bad_frac",
    "init.checkpoint",
    "train.on_nan",
    "train.log_every",
    "train.eval_every",
    "train.eval_pictures",
    "train.checkpoint_every",
    "train.peak_tflops",
)
"""What may change when a run goes on, as it does not change the parameters."""


def base_config(model: str = "uni_adafocus", variant: str = "") -> ConfigDict:
    """The published recipe of the model's family (see ``family_recipe``), locked. 0 stands for "not given".

    Where N is 3 F, as in the variants of trimmed videos, it follows a change of ``model.num_focus``.

    Args:
      model: a key of ``MODELS``, whose arguments become the settings under ``model``.
      variant: words for sizes that the paper reports, such as ``p128,f12`` (see ``PUBLISHED_SIZES``).

    Raises:
      UserError: an unknown name or word.
    """
    recipe = family_recipe(model)
    config = ConfigDict()
    config.seed = 0
    # num_classes 0: those of the data
    config.model = ConfigDict({"name": model, "num_classes": 0, **model_defaults(model)})
    sizes = config.model
    if (
        MODELS[model].kind is TwoExitAdaFocus
        and sizes.num_candidates == CANDIDATES_PER_FOCUS * sizes.num_focus
    ):
        sizes.num_candidates = CANDIDATES_PER_FOCUS * sizes.get_ref("num_focus")
    sizes.update(variant_options(variant, PUBLISHED_SIZES.get(model, {})))
    config.data = ConfigDict(
        {
            "dir": "",
            "train_split": "train",
            "val_split": "val",
            "resize": 0,  # short side at test; 0: image_size · 256 / 224
            "scales": (1.0, 0.875, 0.75, 0.66),
            "flip": True,
            "flip_labels": False,  # mirrored clips get the class that is called so with left and right exchanged
            "val_fraction": 0.0,  # of a folder of videos without a validation split; records have theirs
            "cache_dir": "",  # of remote records; empty: in the user's cache folder
            "cache_gb": 50.0,  # remote records that do not fit are shuffled in parts that do
            "num_workers": 0,
            "num_threads": 2,
            "on_bad_record": "fail",  # or skip
            "max_bad_frac": 0.001,  # share of records that may be skipped
        }
    )
    config.init = ConfigDict({"checkpoint": ""})  # what a new run starts from; empty: fresh
    config.loss = ConfigDict({"norm_ratio": recipe.norm_ratio, "kl_ratio": 0.0})
    config.optimizer = ConfigDict(
        {
            "lr": recipe.lr,
            "reference_batch_size": recipe.batch_size,
            "momentum": 0.9,
            "weight_decay": recipe.weight_decay,
            "clip_norm": recipe.clip_norm,  # 0: no clipping
            "warmup_frac": 0.0,
            "freeze": "",  # regex of whole parameter paths; several: "a/.*|b/.*"
            "layer_factors": "",  # "REGEX=FACTOR REGEX=FACTOR": groups in front of those below
        }
    )
    config.optimizer.groups = ConfigDict(sort_keys=False)
    for name, group in family_groups(model).items():
        config.optimizer.groups[name] = ConfigDict(asdict(group))
    config.train = ConfigDict(
        {
            "batch_size": recipe.batch_size,
            "epochs": 50.0,
            "steps": 0,  # 0: from epochs
            "parallel": "pmap",
            "sync_batch_norm": False,
            "accumulate": 1,
            "on_nan": "stop",
            "log_every": 20,
            "eval_every": 0,  # 0: at the end
            "eval_pictures": 4,  # held-out videos drawn for TensorBoard at every evaluation
            "checkpoint_every": 500,
            "best_metric": "top1",
            "peak_tflops": 0.0,  # of one device; 0: as known for its kind
        }
    )
    return config.lock()


def variant_options(text: str, choices: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The settings that the words of a ``VARIANT`` stand for.

    Args:
      text: words with commas between them; empty: none.
      choices: setting to its words and what each stands for.

    Raises:
      UserError: an unknown word, or two for one setting.

    Example:
      >>> variant_options("f8,p96", {"patch_size": {"p96": 96, "p128": 128}, "num_focus": {"f8": 8, "f12": 12}})
      {'num_focus': 8, 'patch_size': 96}
    """
    setting_of = {word: setting for setting, words in choices.items() for word in words}
    options: dict[str, Any] = {}
    for word in text.split(",") if text else ():
        if word not in setting_of:
            known = ", ".join(setting_of) or "none"
            raise UserError(f"unknown variant {word!r}: choose among {known}, with commas between them")
        setting = setting_of[word]
        if setting in options:
            raise UserError(f"variant {text!r}: choose only one of {', '.join(choices[setting])}")
        options[setting] = choices[setting][word]
    return options


def load_config(file: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Reads ``FILE[:VARIANT]`` and makes its settings: ``check_config(read_config(file), overrides)``."""
    return check_config(read_config(file), overrides)


def read_config(file: str) -> ConfigDict:
    """What ``get_config`` of ``FILE[:VARIANT]`` returns, locked.

    Raises:
      UserError: no such file or variant, or it does not load.
    """
    path, _, variant = file.partition(":")
    if not os.path.isfile(path):
        raise UserError(f"no such config file: {path!r}; give one, e.g. configs/demo.py")
    try:
        config = runpy.run_path(path)["get_config"](*[variant] if variant else [])
    except UserError as error:
        raise UserError(f"config {file}: {error}") from error
    except Exception as error:  # whatever the file does wrong; --debug shows where
        text = " ".join(str(error).split())
        raise UserError(f"config {file} does not load: {type(error).__name__}: {text}") from error
    if not isinstance(config, ConfigDict):
        raise UserError(f"config {file} does not load: get_config() returns no ConfigDict")
    return config.lock()


def check_config(config: ConfigDict, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Applies flags such as ``--config.optimizer.lr=0.1``, and checks every value.

    Returns:
      Nested dictionaries of what JSON holds; ``data.dir`` absolute, remote, or empty.

    Raises:
      UserError: no such key, a value of another type or out of range.
    """
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
    for section, key in (("data", "dir"), ("init", "checkpoint")):
        settings[section][key] = absolute(settings[section][key])
    _check_values(settings)
    return settings


def records_dir(settings: Mapping[str, Any]) -> str:
    """The folder of the data.

    Raises:
      UserError: none is given.
    """
    if not settings["data"]["dir"]:
        raise UserError("no data: give --data DIR, the records that adafocus prepare made")
    return str(settings["data"]["dir"])


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
        flip_labels=mirrored_labels(settings["classes"]) if data["flip_labels"] else None,
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
    groups = [ParamGroup(**group) for group in options.pop("groups").values()]
    return OptimizerOptions(
        learning_rate=options.pop("lr"),
        groups=(*_layer_groups(options.pop("layer_factors")), *groups),
        clip_norm=options.pop("clip_norm") or None,
        **options,
    )


def train_options(settings: Mapping[str, Any], num_examples: int) -> TrainOptions:
    """The loop's options; ``epochs`` of ``num_examples`` become steps, the last one may be cut short."""
    options = settings["train"]
    steps = options["steps"] or max(1, int(options["epochs"] * num_examples / options["batch_size"]))
    names = {field.name for field in fields(TrainOptions)} & options.keys()
    return TrainOptions(num_steps=steps, seed=settings["seed"], **{name: options[name] for name in names})


def _layer_groups(text: str) -> list[ParamGroup]:
    """The groups of ``optimizer.layer_factors``; ValueError where a word is not ``REGEX=FACTOR``.

    >>> _layer_groups("local_encoder/layer1.*=0.1")
    [ParamGroup(pattern='local_encoder/layer1.*', factor=0.1, delay_frac=0.0)]
    """
    words = (word.rpartition("=") for word in text.split())
    return [ParamGroup(pattern, float(factor)) for pattern, _, factor in words]


def _is_regex(text: str) -> bool:
    try:
        re.compile(text)
    except re.error:
        return False
    return True


def _is_layer_factors(text: str) -> bool:
    try:
        return all(group.factor >= 0 for group in _layer_groups(text))
    except ValueError:
        return False


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
    "model.dtype": (lambda x: x in ("float32", "bfloat16"), "choose float32 or bfloat16"),
    "model.remat": (_is_regex, "give a regular expression for names of encoder blocks, such as '.*'"),
    "optimizer.freeze": (_is_regex, "give a regular expression for whole paths of parameters"),
    "model.dropout": (lambda x: 0 <= x < 1, "give 0 or more and less than 1"),
    "model.head_dropout": (lambda x: 0 <= x < 1, "give 0 or more and less than 1"),
    "data.resize": _AT_LEAST_0,
    "data.cache_gb": _POSITIVE,
    "data.num_workers": _AT_LEAST_0,
    "data.num_threads": _AT_LEAST_1,
    "data.on_bad_record": (lambda x: x in ("fail", "skip"), "choose fail or skip"),
    "data.max_bad_frac": _FRACTION,
    "data.val_fraction": (lambda x: 0 <= x < 1, "give 0 or more and less than 1"),
    "loss.norm_ratio": _AT_LEAST_0,
    "loss.kl_ratio": _AT_LEAST_0,
    "optimizer.lr": _POSITIVE,
    "optimizer.reference_batch_size": _AT_LEAST_1,
    "optimizer.momentum": (lambda x: 0 <= x < 1, "give 0 or more and less than 1"),
    "optimizer.weight_decay": _AT_LEAST_0,
    "optimizer.clip_norm": _AT_LEAST_0,
    "optimizer.warmup_frac": _FRACTION,
    "optimizer.layer_factors": (
        _is_layer_factors,
        "give REGEX=FACTOR, several with spaces between, such as 'local_encoder/layer1.*=0.1'",
    ),
    "train.batch_size": _AT_LEAST_1,
    "train.epochs": _POSITIVE,
    "train.steps": _AT_LEAST_0,
    "train.parallel": (lambda x: x in ("pmap", "shard_map"), "choose pmap or shard_map"),
    "train.accumulate": _AT_LEAST_1,
    "train.on_nan": (lambda x: x in ("stop", "skip"), "choose stop or skip"),
    "train.log_every": _AT_LEAST_1,
    "train.eval_every": _AT_LEAST_0,
    "train.eval_pictures": _AT_LEAST_0,
    "train.checkpoint_every": _AT_LEAST_0,
    "train.peak_tflops": _AT_LEAST_0,
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

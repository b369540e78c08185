"""The configuration of a run: one locked tree of settings, and its way into the library's explicit arguments.

A config file is a Python file with ``get_config(variant="")`` that changes ``base_config()``. On the command line every
setting can be changed: ``--config.optimizer.lr=0.1``. The library itself never sees a config: the functions below turn
one, or the JSON beside a checkpoint, into its dataclasses.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags
from ml_collections.config_dict import placeholder

from adafocus_jax.data.pipeline import ClipSpec
from adafocus_jax.errors import UserError
from adafocus_jax.models import create_model, model_defaults
from adafocus_jax.models.uni_adafocus import UniAdaFocus
from adafocus_jax.train import OptimizerOptions, ParamGroup, TrainOptions

FREE_KEYS = (
    "data.dir",
    "data.num_workers",
    "data.num_threads",
    "train.log_every",
    "train.eval_every",
    "train.checkpoint_every",
)
"""Settings that may change when a run goes on: none of them changes what is learned."""


def base_config(model: str = "uni_adafocus") -> ConfigDict:
    """Every setting with its default: the published recipe for ActivityNet (paper, implementation details). Locked.

    Args:
      model: a key of ``MODELS``, whose arguments become the settings under ``model``.
    """
    config = ConfigDict(
        {
            "seed": 0,
            "model": {"name": model, **model_defaults(model)},
            "data": {
                "dir": "",
                "train_split": "train",
                "val_split": "val",
                "resize": placeholder(int),
                "scales": (1.0, 0.875, 0.75, 0.66),
                "flip": True,
                "num_workers": 0,
                "num_threads": 2,
            },
            "loss": {"norm_ratio": 1.0, "kl_ratio": 0.0},
            "optimizer": {
                "lr": 0.002,
                "reference_batch_size": 32,
                "momentum": 0.9,
                "weight_decay": 2e-4,
                "clip_norm": placeholder(float),
                "warmup_frac": 0.0,
                "groups": (
                    ("(global_encoder|global_head|proxy_head)/.*", 0.5),
                    ("(local_encoder|local_head)/.*", 1.0),
                    ("(spatial|temporal)_policy/.*", 0.2),
                    ("classifier/.*", 20.0),
                ),
            },
            "train": {
                "batch_size": 32,
                "epochs": 50,
                "steps": placeholder(int),
                "parallel": "pmap",
                "sync_batch_norm": False,
                "log_every": 20,
                "eval_every": 0,
                "checkpoint_every": 500,
                "best_metric": "top1",
            },
        }
    )
    return config.lock()


def parse_config(file: str, settings: Sequence[str] = ()) -> ConfigDict:
    """The config of ``FILE[:variant]``, changed by ``settings`` of the form ``--config.a.b=value``.

    Raises:
      UserError: no such file, an unknown setting, or a value of the wrong type.
    """
    path = file.partition(":")[0]
    if not os.path.isfile(path):
        raise UserError(f"no such config file: {path!r}; give one, e.g. configs/demo.py")
    words = ["adafocus", f"--config={file}", *settings]
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=words)
    try:
        values(words)
    except Exception as error:  # whatever a config file or ml_collections raises
        text = " ".join(str(error.args[0] if error.args else error).split())
        if "Traceback" in text:  # of the config file; its last line says what is wrong
            text = text.rpartition("Error: ")[2]
        text = text.strip("'\"").replace("\\n", " ").replace("\\'", "'")  # a KeyError shows its text quoted
        raise UserError(f"config {file}: {text}") from error
    return values["config"].value


def make_model(config: Mapping[str, Any]) -> UniAdaFocus:
    """The model of a config with ``classes``. Raises UserError where arguments do not fit together."""
    settings = {key: value for key, value in dict(config["model"]).items() if key != "name"}
    axis = "batch" if config["train"]["sync_batch_norm"] else None
    return create_model(
        config["model"]["name"], num_classes=len(config["classes"]), norm_axis=axis, **settings
    )


def make_clip_spec(config: Mapping[str, Any]) -> ClipSpec:
    """How clips are sampled and cut."""
    data, model = config["data"], config["model"]
    return ClipSpec(
        num_candidates=model["num_candidates"],
        image_size=model["image_size"],
        resize=data["resize"],
        flip=data["flip"],
        scales=tuple(data["scales"]),
    )


def make_optimizer_options(config: Mapping[str, Any]) -> OptimizerOptions:
    """Rates, groups and schedule. A group is (regular expression, factor) or (…, factor, share of steps to wait)."""
    optimizer = config["optimizer"]
    for group in optimizer["groups"]:
        if len(group) not in (2, 3):
            raise UserError(
                f"optimizer.groups: {tuple(group)} is not (regex, factor) or (regex, factor, delay)"
            )
    return OptimizerOptions(
        learning_rate=optimizer["lr"],
        reference_batch_size=optimizer["reference_batch_size"],
        groups=tuple(ParamGroup(*group) for group in optimizer["groups"]),
        momentum=optimizer["momentum"],
        weight_decay=optimizer["weight_decay"],
        clip_norm=optimizer["clip_norm"],
        warmup_frac=optimizer["warmup_frac"],
    )


def make_train_options(config: Mapping[str, Any], num_videos: int) -> TrainOptions:
    """How long and how often. ``steps`` counts where given, else ``epochs`` over ``num_videos``.

    Raises:
      UserError: a number that has to be positive is not, or an unknown kind of parallelism.
    """
    train = config["train"]
    for name in ("batch_size", "epochs", "log_every"):
        if train[name] < 1:
            raise UserError(f"train.{name}={train[name]} must be at least 1")
    if train["parallel"] not in ("pmap", "shard_map"):
        raise UserError(f"train.parallel={train['parallel']!r}: choose pmap or shard_map")
    steps = train["steps"] or max(1, train["epochs"] * num_videos // train["batch_size"])
    if steps < 1:
        raise UserError(f"train.steps={steps} must be at least 1")
    return TrainOptions(
        num_steps=steps,
        batch_size=train["batch_size"],
        seed=config["seed"],
        parallel=train["parallel"],
        log_every=train["log_every"],
        eval_every=train["eval_every"],
        checkpoint_every=train["checkpoint_every"],
        best_metric=train["best_metric"],
    )

"""The published base, which config files change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from adafocus_jax.config.recipes import PUBLISHED_SIZES, family_groups, family_recipe
from adafocus_jax.data.datasets import dataset_spec
from adafocus_jax.errors import UserError
from adafocus_jax.losses import LOSS_WEIGHTS
from adafocus_jax.models import MODELS, model_defaults
from adafocus_jax.plugins import import_plugins

FREE_KEYS = (
    "plugins",
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
    "train.evaluators",
    "train.checkpoint_every",
    "train.peak_tflops",
)
"""What may change when a run is resumed, as it does not change the parameters. See ``free_keys``."""
DEFAULT_CLASSES = 200
"""For figures of a model whose config leaves the classes to the data: as many as ActivityNet and Mini-Kinetics have."""


def base_config(
    model: str = "uni_adafocus", variant: str = "", *, dataset: str = "", plugins: Sequence[str] = ()
) -> ConfigDict:
    """The published recipe of the model's family (see ``family_recipe``), locked. 0 stands for "not given".

    ``loss.weights`` and ``optimizer.arguments`` alone take new keys: weights of terms that a plugin registers, and
    arguments of an optimizer of optax.

    Where N is 3 F, as in the variants of trimmed videos, it follows a change of ``model.num_focus``.

    Args:
      model: a key of ``MODELS``, whose arguments become the settings under ``model``.
      variant: words for sizes that the paper reports, such as ``p128,f12`` (see ``PUBLISHED_SIZES``).
      dataset: the data set whose number of classes, flip and metric hold (a key of ``DATASETS``); empty: those that the
        records have kept of theirs.
      plugins: modules that register what this configuration names, such as ``("my_package.encoders",)``; imported now,
        and by every command that reads a run of this configuration.

    Raises:
      UserError: an unknown name or word, or a plugin that does not load.
    """
    import_plugins(plugins)
    recipe = family_recipe(model)
    config = ConfigDict()
    config.plugins = tuple(plugins)
    config.seed = 0
    # num_classes 0: those of the data
    config.model = ConfigDict({"name": model, "num_classes": 0, **model_defaults(model)})
    sizes = config.model
    ratio = MODELS[model].kind.candidates_per_focus
    if ratio and sizes.num_candidates == ratio * sizes.num_focus:
        sizes.num_candidates = ratio * sizes.get_ref("num_focus")
    sizes.update(variant_options(variant, PUBLISHED_SIZES.get(model, {})))
    config.data = ConfigDict(
        {
            "dir": "",
            "train_split": "train",
            "val_split": "val",
            "resize": 0,  # short side at test; 0: image_size · 256 / 224
            "scales": (1.0, 0.875, 0.75, 0.66),
            "flip": placeholder(bool),  # not given: as the data set of the records says
            "flip_labels": False,  # mirrored clips get the class that is called so with left and right exchanged
            "val_fraction": 0.0,  # of a folder of videos without a validation split; records have theirs
            "cache_dir": "",  # of remote records; empty: in the user's cache folder
            "cache_gb": 50.0,  # remote records that do not fit are shuffled in parts that do
            "num_workers": 0,
            "num_threads": 2,
            "on_bad_record": "fail",  # or skip
            "max_bad_frac": 0.001,  # share of records that may be skipped
            "transforms": (),  # of TRANSFORMS, of training clips, one after another
        }
    )
    config.init = ConfigDict({"checkpoint": ""})  # what a new run starts from; empty: fresh
    config.loss = ConfigDict({"weights": {**LOSS_WEIGHTS, "norm": recipe.norm_ratio}})  # of LOSS_TERMS
    config.optimizer = ConfigDict(
        {
            "name": "sgd",  # of OPTIMIZERS
            "arguments": {},  # its further arguments
            "lr": recipe.lr,
            "reference_batch_size": recipe.batch_size,
            "momentum": 0.9,
            "weight_decay": recipe.weight_decay,
            "clip_norm": recipe.clip_norm,  # 0: no clipping
            "warmup_frac": 0.0,
            "decay_steps": 0,  # of the schedule; 0: all of the run, whose length then cannot change
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
            "evaluators": ("classification",),  # of EVALUATORS, at every evaluation
            "checkpoint_every": 500,
            "best_metric": "",  # empty: as the data set of the records says
            "peak_tflops": 0.0,  # of one device; 0: as known for its kind
        }
    )
    if dataset:
        spec = dataset_spec(dataset)
        config.model.num_classes = spec.num_classes or 0
        config.data.flip, config.train.best_metric = spec.flip, spec.metric
    config.lock()
    config.loss.weights.unlock()
    config.optimizer.arguments.unlock()
    return config


def free_keys(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Dotted keys that may change when a run of these settings is resumed.

    The length of the run may, too, where ``optimizer.decay_steps`` says how long the schedule is.
    """
    length = ("train.steps", "train.epochs") if settings["optimizer"]["decay_steps"] else ()
    return FREE_KEYS + length


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


def set_model_arguments(config: ConfigDict, arguments: Mapping[str, Any]) -> None:
    """Sets arguments of the model in ``config.model``.

    Raises:
      UserError: a value of another type.
    """
    for name, value in arguments.items():
        try:
            with config.unlocked():  # a name that the model does not know is the model's to refuse
                config.model[name] = value
        except (TypeError, ValueError) as error:
            raise UserError(f"the model argument {name}={value}: {' '.join(str(error).split())}") from error

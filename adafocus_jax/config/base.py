"""The published base, which config files change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ml_collections import ConfigDict

from adafocus_jax.config.recipes import PUBLISHED_SIZES, family_groups, family_recipe
from adafocus_jax.errors import UserError
from adafocus_jax.models import MODELS, model_defaults
from adafocus_jax.models.registry import CANDIDATES_PER_FOCUS
from adafocus_jax.models.two_exit import TwoExitAdaFocus

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
DEFAULT_CLASSES = 200
"""For figures of a model whose config leaves the classes to the data: as many as ActivityNet and Mini-Kinetics have."""


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

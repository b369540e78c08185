"""Which keys and values are valid, and what to say of the others."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

from ml_collections import ConfigDict

from adafocus_jax.errors import UserError
from adafocus_jax.evaluate.evaluators import EVALUATORS
from adafocus_jax.losses import check_loss_weights
from adafocus_jax.train.optimizer import OPTIMIZERS, ParamGroup


def layer_groups(text: str) -> list[ParamGroup]:
    """The groups of ``optimizer.layer_factors``; ValueError where a word is not ``REGEX=FACTOR``.

    >>> layer_groups("local_encoder/layer1.*=0.1")
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


def _are_in(names: Collection[str], value: str | Sequence[str]) -> bool:
    return all(name in names for name in ([value] if isinstance(value, str) else value))


def _is_layer_factors(text: str) -> bool:
    try:
        return all(group.factor >= 0 for group in layer_groups(text))
    except ValueError:
        return False


def check_keys(config: ConfigDict, overrides: Sequence[str]) -> None:
    """Raises UserError for a flag of a key that ``config`` does not have."""
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
    "optimizer.decay_steps": _AT_LEAST_0,
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


def check_values(settings: Mapping[str, Any]) -> None:
    """Raises UserError for a value out of range."""
    rules = dict(_VALID)
    check_loss_weights(settings["loss"]["weights"])
    for path, names in (("optimizer.name", OPTIMIZERS), ("train.evaluators", EVALUATORS)):
        rules[path] = (partial(_are_in, names), f"choose among {', '.join(names)}")
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

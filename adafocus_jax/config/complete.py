"""Settings that an earlier version saved, as this one reads them."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any

from adafocus_jax.config.base import base_config
from adafocus_jax.plugins import import_plugins

_OPEN = ("loss.weights", "optimizer.groups", "optimizer.arguments")
"""Sections whose keys are the run's own choice."""
_OLD_WEIGHTS = {"norm_ratio": "norm", "kl_ratio": "kl"}


def complete(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a saved run, with defaults for the keys that it does not have. Imports its plugins.

    A key that was added since takes the default of ``base_config``, which has to mean what was done before there was
    the key: so every run can be resumed and evaluated by later versions.

    Raises:
      UserError: a plugin is missing, or the model is not known.
    """
    completed: dict[str, Any] = copy.deepcopy(dict(settings))
    import_plugins(completed.get("plugins", ()))
    base = json.loads(json.dumps(base_config(completed["model"]["name"]).to_dict()))
    loss = completed.get("loss", {})
    for old, term in _OLD_WEIGHTS.items():
        if old in loss:
            loss.setdefault("weights", base["loss"]["weights"])[term] = loss.pop(old)
    return _filled(completed, base)


def _filled(settings: dict[str, Any], base: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    for key, default in base.items():
        here = f"{path}.{key}" if path else key
        if isinstance(default, dict) and isinstance(settings.get(key), dict) and here not in _OPEN:
            _filled(settings[key], default, here)
        else:
            settings.setdefault(key, default)
    return settings

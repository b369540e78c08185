"""In what a trial differs from the base config, as flags and as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Overrides = dict[str, Any]
"""Dotted config key to value."""


def flags(overrides: Mapping[str, Any]) -> list[str]:
    """The overrides as flags of ``adafocus train``.

    >>> flags({"optimizer.lr": 0.1, "model.side_limits": [0.5, 1.0]})
    ['--config.optimizer.lr=0.1', '--config.model.side_limits=(0.5, 1.0)']
    """
    return [
        f"--config.{key}={tuple(value) if isinstance(value, list) else value}"
        for key, value in overrides.items()
    ]


def describe(overrides: Mapping[str, Any]) -> str:
    """The overrides on one line.

    >>> describe({"optimizer.lr": 0.1, "seed": 1})
    'optimizer.lr=0.1 seed=1'
    """
    return " ".join(f"{key}={value}" for key, value in overrides.items()) or "the base config"

"""Scalars of the steps between two rows of the log: fetched from the devices lazily, and checked to be finite."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NoReturn

import jax
import numpy as np

from adafocus_jax.checkpoint import Checkpoints
from adafocus_jax.train.logger import describe_not_finite
from adafocus_jax.train.state import TrainState
from adafocus_jax.train.step import fetch_scalars
from adafocus_jax.types import Array


class TrainingDivergedError(RuntimeError):
    """A loss or a gradient is no longer finite. The message is one line with step, terms and last checkpoint."""


class Figures:
    """Scalars of the steps since the last row. Fetching them raises at the first step that is not finite."""

    def __init__(self, checkpoints: Checkpoints, note: Callable[[str], None]) -> None:
        """``note`` reports steps whose update was dropped."""
        self._checkpoints, self._note = checkpoints, note
        self._on_devices: list[tuple[int, Mapping[str, Array]]] = []
        self._fetched: list[dict[str, float]] = []
        self._skipped = 0

    def add(self, step: int, scalars: Mapping[str, Array]) -> None:
        """Takes the scalars of the update that led to ``step``, which may still be under way."""
        self._on_devices.append((step, scalars))

    def means(self) -> dict[str, float]:
        """Means over the steps since the last call, without those whose update was dropped; empty if there are none."""
        self._fetch()
        rows, self._fetched = self._fetched, []
        return {name: math.fsum(row[name] for row in rows) / len(rows) for name in rows[0]} if rows else {}

    def take_skipped(self) -> int:
        """How many updates were dropped since the last call."""
        skipped, self._skipped = self._skipped, 0
        return skipped

    def finite(self, step: int, state: TrainState) -> TrainState:
        """The state itself, once it is known to be fit to be saved.

        Raises:
          TrainingDivergedError: it, or what led to it, is not finite.
        """
        self._fetch()
        for path, leaf in jax.tree_util.tree_leaves_with_path(state):
            if not np.isfinite(leaf).all():
                self._fail(step, f"{jax.tree_util.keystr(path, simple=True, separator='/')} is not finite")
        return state

    def _fetch(self) -> None:
        """Moves scalars to the host, and stops at the first step that is not finite unless it was skipped."""
        for step, scalars in self._on_devices:
            row = fetch_scalars(scalars)
            bad = describe_not_finite(row)
            if row.pop("skipped", 0):
                self._skipped += 1
                self._note(f"step {step} skipped, its update dropped: {bad or 'parameters would overflow'}")
            elif bad:
                self._fail(step, bad)
            else:
                self._fetched.append(row)
        self._on_devices.clear()

    def _fail(self, step: int, what: str) -> NoReturn:
        saved = self._checkpoints.steps
        good = str(self._checkpoints.folder / str(saved[-1])) if saved else "none yet"
        raise TrainingDivergedError(
            f"training diverged at step {step}: {what}; last good checkpoint: {good}; "
            "lower optimizer.lr or optimizer.clip_norm and train in another workdir, or resume from there with "
            "train.on_nan=skip, which drops such updates"
        )

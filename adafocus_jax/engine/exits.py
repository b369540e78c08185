"""Where videos leave: an exit policy, applied exit by exit."""

from __future__ import annotations

import numpy as np

from adafocus_jax.early_exit import CRITERIA, ExitPolicy
from adafocus_jax.early_exit.thresholds import NOBODY
from adafocus_jax.errors import UserError


class ExitRule:
    """The serving thresholds of a policy, or none, over a number of exits; the last takes everyone."""

    def __init__(self, policy: ExitPolicy | None, exits: int) -> None:
        """Checks that they fit. Raises UserError for a policy of another number of exits."""
        if policy is not None and len(policy.serving) != exits:
            raise UserError(
                f"the early-exit policy has {len(policy.serving)} exits, the model {exits}: solve the thresholds again"
            )
        self.exits = exits
        self._criterion = CRITERIA[policy.criterion] if policy else None
        self._thresholds = np.asarray(policy.serving if policy else [NOBODY] * exits, np.float32)

    def open(self, exit_: int) -> bool:
        """Some video may leave at this exit."""
        return exit_ == self.exits - 1 or bool(self._thresholds[exit_] < NOBODY)

    @property
    def leaves_between(self) -> bool:
        """Some video may leave at an exit other than the first, which is at the end of the glance, and the last."""
        return any(self.open(exit_) for exit_ in range(1, self.exits - 1))

    def leaves(self, logits: np.ndarray) -> np.ndarray:
        """Which videos leave at the last exit of ``[n, e + 1, K]`` logits, ``[n]`` bool."""
        exit_ = logits.shape[1] - 1
        if exit_ == self.exits - 1 or self._criterion is None or not self.open(exit_):
            return np.full(len(logits), exit_ == self.exits - 1)
        return np.asarray(self._criterion(logits), np.float32) >= self._thresholds[exit_]

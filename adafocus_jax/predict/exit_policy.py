"""Which stored exit thresholds serve a budget."""

from __future__ import annotations

import os
import re

import numpy as np

from adafocus_jax.early_exit import ExitPolicy
from adafocus_jax.errors import UserError
from adafocus_jax.evaluate.exits import choose_policy, stored_policies


def find_policy(
    folder: str | os.PathLike[str],
    exit_gflops: np.ndarray,
    *,
    budget: float | str | None = None,
    exit_share: float | None = None,
    criterion: str = "confidence",
) -> ExitPolicy | None:
    """The thresholds stored beside the checkpoints in ``folder`` that serve a budget or an exit share.

    Args:
      folder: of checkpoints.
      exit_gflops: ``[E]`` cost of each exit of the model.
      budget: what a video may cost on average, as ``budget_share`` reads it.
      exit_share: the ``q`` that thresholds were solved for (``exit_shares``).
      criterion: by which videos leave.

    Returns:
      None where neither budget nor exit share is given: every video runs to the last exit.

    Raises:
      UserError: both are given, no thresholds are stored, or none of them serve; the message says which would.
    """
    if budget is None and exit_share is None:
        return None
    if budget is not None and exit_share is not None:
        raise UserError(f"budget={budget} and exit_share={exit_share} exclude each other: give one")
    stored = [policy for policy in stored_policies(folder) if policy.criterion == criterion]
    if not stored:
        raise UserError(
            f"no exit thresholds by {criterion} are stored in {folder}: adafocus evaluate --early-exit solves and "
            "stores them"
        )
    if budget is not None:
        return choose_policy(stored, criterion, budget_share(budget, exit_gflops))
    found = [policy for policy in stored if np.isclose(policy.q, float(exit_share or 0))]
    if not found:
        known = ", ".join(f"{policy.q:g}" for policy in sorted(stored, key=lambda policy: policy.q))
        raise UserError(f"exit_share={exit_share}: thresholds by {criterion} are stored for {known}")
    return found[0]


def budget_share(budget: float | str, exit_gflops: np.ndarray) -> float:
    """A budget as a share of the cost of the last exit.

    A number up to 1 is that share, a larger one is giga multiply-adds; with ``G`` behind it, it always is.

    >>> costs = np.array([4.0, 20.0])
    >>> budget_share(0.5, costs), budget_share(5, costs), budget_share("0.5", costs), budget_share("10G", costs)
    (0.5, 0.25, 0.5, 0.5)

    Raises:
      UserError: no number above 0, or more than the last exit costs.
    """
    match = re.fullmatch(r"\s*([0-9.eE+-]+)\s*(g|gflops)?\s*", str(budget), re.IGNORECASE)
    try:
        value = float(match[1]) if match else float("nan")
    except ValueError:
        value = float("nan")
    full = float(exit_gflops[-1])
    share = value / full if match and (match[2] or value > 1) else value
    if not 0 < share <= 1:
        raise UserError(
            f"budget={budget}: give a share of the full cost in (0, 1], or giga multiply-adds up to {full:.3g} as in "
            f"{full / 2:.3g}G"
        )
    return share

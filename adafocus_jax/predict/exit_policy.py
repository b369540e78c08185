"""Which stored exit thresholds serve a budget."""

from __future__ import annotations

import os

from adafocus_jax.checkpoint import checkpoint_folder
from adafocus_jax.early_exit import BUDGET_FRAC, ExitPolicy, choose_policy, parse_budget
from adafocus_jax.errors import UserError
from adafocus_jax.evaluate.exits import stored_policies


def find_policy(
    folder: str | os.PathLike[str],
    full_gflops: float,
    *,
    budget: float | str | None = None,
    exit_share: float | None = None,
    criterion: str = "confidence",
) -> ExitPolicy | None:
    """The thresholds stored beside the checkpoints in ``folder`` that serve a budget or an exit share.

    Args:
      folder: of checkpoints.
      full_gflops: cost of a video that takes the last exit, in giga multiply-adds.
      budget: what a video may cost on average, as ``parse_budget`` reads it.
      exit_share: the ``q`` that thresholds were solved for (``exit_shares``).
      criterion: by which videos leave.

    Returns:
      None where neither budget nor exit share is given: every video takes the last exit.

    Raises:
      UserError: both are given, no thresholds are stored, or none of them serve; the message says which would.
    """
    if budget is None and exit_share is None:
        return None
    if budget is not None and exit_share is not None:
        raise UserError(f"budget={budget} and exit_share={exit_share} exclude each other: give one")
    stored = stored_policies(folder)
    if not stored:
        raise UserError(
            f"no exit thresholds are stored in {folder}: adafocus evaluate --early-exit solves and stores them"
        )
    if exit_share is not None:
        return choose_policy(stored, criterion, q=exit_share)
    assert budget is not None
    return choose_policy(stored, criterion, parse_budget(budget, full_gflops))


def default_budget(directory: str | os.PathLike[str]) -> float | None:
    """``BUDGET_FRAC`` where exit thresholds are stored with the checkpoints of ``directory``, else None."""
    return BUDGET_FRAC if stored_policies(checkpoint_folder(directory)) else None

"""Which of the stored policies to serve with: by what a video may cost on average, or by the share q."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from adafocus_jax.early_exit.criteria import check_criterion
from adafocus_jax.early_exit.thresholds import ExitPolicy
from adafocus_jax.errors import UserError

BUDGET_FRAC = 0.75
"""Share of the full cost to spend on average where nothing else is asked for."""


def parse_budget(budget: float | str, full_gflops: float) -> float:
    """A budget as a share of the full cost.

    Args:
      budget: a number up to 1 is that share; a larger one, or one with the unit G or GFLOPS, is the mean cost of a
        video in giga multiply-adds.
      full_gflops: cost of a video that takes the last exit.

    Returns:
      The share, in (0, 1].

    Raises:
      UserError: not a number above 0.

    Example:
      >>> [parse_budget(budget, 20.0) for budget in ("0.5", 12, "0.4G", "35 GFLOPS")]
      [0.5, 0.6, 0.02, 1.0]
    """
    found = re.fullmatch(r"\s*([\d.]+(?:e[+-]?\d+)?)\s*(g|gflops)?\s*", str(budget), re.IGNORECASE)
    try:
        value = float(found[1]) if found else math.nan
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf or found is None:
        raise UserError(
            f"early-exit budget {budget!r}: give a share of the full cost (above 0 and up to 1), or the mean cost of a "
            f"video in GFLOPS (such as {full_gflops / 2:.3g}G)"
        )
    return min(1.0, value / full_gflops) if found[2] or value > 1 else value


def choose_policy(
    policies: Iterable[ExitPolicy],
    criterion: str = "confidence",
    budget_frac: float = BUDGET_FRAC,
    *,
    q: float | None = None,
) -> ExitPolicy:
    """The policy of ``criterion`` that spends the most of a budget, or that was solved for a share ``q``.

    Args:
      policies: those stored with a checkpoint.
      criterion: a key of ``CRITERIA``.
      budget_frac: share of the full cost to spend, on average over the calibration videos; see ``parse_budget``.
      q: takes the policy solved for this q instead.

    Raises:
      UserError: an unknown criterion, or no stored policy meets the budget or q; says which do.
    """
    check_criterion(criterion)
    by_cost = sorted((p for p in policies if p.criterion == criterion), key=lambda policy: policy.cost_frac)
    if not by_cost:
        raise UserError(
            f"no early-exit policy of criterion {criterion!r} is stored with this checkpoint: "
            "solve the thresholds again"
        )
    if q is not None:
        found = [policy for policy in by_cost if math.isclose(policy.q, q, rel_tol=1e-3)]
        if not found:
            known = ", ".join(f"{policy.q:.4g}" for policy in sorted(by_cost, key=lambda policy: policy.q))
            raise UserError(
                f"early-exit share q = {q}: no stored policy was solved for it; choose one of {known}"
            )
        return found[0]
    if not 0 < budget_frac <= 1:
        raise UserError(
            f"early-exit budget {budget_frac}: give a share of the full cost, above 0 and up to 1"
        )
    affordable = [policy for policy in by_cost if policy.cost_frac <= budget_frac]
    if not affordable:
        low, high = by_cost[0].cost_frac, by_cost[-1].cost_frac
        raise UserError(
            f"early-exit budget {budget_frac:.3g}: leaving as early as possible by {criterion} already takes "
            f"{low:.2f} of the full cost; the stored policies spend from {low:.2f} to {high:.2f}"
        )
    return affordable[-1]

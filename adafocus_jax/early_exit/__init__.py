"""Early exit: videos leave at the first classifier that is sure enough."""

from adafocus_jax.early_exit.budgets import BUDGET_FRAC, choose_policy, parse_budget
from adafocus_jax.early_exit.criteria import CRITERIA, Criterion, exit_scores, register_criterion
from adafocus_jax.early_exit.curves import (
    ExitCurve,
    early_exit_curve,
    fixed_exit_curve,
    random_exit_curve,
    write_curve_csv,
)
from adafocus_jax.early_exit.thresholds import (
    ExitPolicy,
    assign_exits,
    exit_shares,
    midway_thresholds,
    policies_from_json,
    policies_to_json,
    solve_policy,
    solve_thresholds,
)

__all__ = [
    "BUDGET_FRAC",
    "CRITERIA",
    "Criterion",
    "ExitCurve",
    "ExitPolicy",
    "assign_exits",
    "choose_policy",
    "early_exit_curve",
    "exit_scores",
    "exit_shares",
    "fixed_exit_curve",
    "midway_thresholds",
    "parse_budget",
    "policies_from_json",
    "policies_to_json",
    "random_exit_curve",
    "register_criterion",
    "solve_policy",
    "solve_thresholds",
    "write_curve_csv",
]

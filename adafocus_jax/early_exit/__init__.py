"""Early exit: videos leave at the first classifier that is sure enough."""

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
    exit_scores,
    exit_shares,
    policies_from_json,
    policies_to_json,
    solve_policy,
    solve_thresholds,
)

__all__ = [
    "ExitCurve",
    "ExitPolicy",
    "assign_exits",
    "early_exit_curve",
    "exit_scores",
    "exit_shares",
    "fixed_exit_curve",
    "policies_from_json",
    "policies_to_json",
    "random_exit_curve",
    "solve_policy",
    "solve_thresholds",
    "write_curve_csv",
]

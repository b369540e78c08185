"""Early exit over whole splits: the curves of quality against cost, and the policy that is stored with a model."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from adafocus_jax.early_exit import (
    ExitCurve,
    ExitPolicy,
    early_exit_curve,
    fixed_exit_curve,
    random_exit_curve,
    solve_policy,
)
from adafocus_jax.early_exit.curves import SWEEP, Metric
from adafocus_jax.early_exit.thresholds import CRITERIA
from adafocus_jax.errors import UserError
from adafocus_jax.evaluate.predict import Predictions

POLICY_FILE = "early_exit.json"


def usable_exits(predictions: Predictions) -> np.ndarray:
    """Logits ``[n, F + 1, K]`` of the exits that count: the end of the glance, and every focus frame."""
    return predictions.exit_logits[:, -predictions.frame_indices.shape[1] - 1 :]


def sweep_exits(
    calibration: Predictions, test: Predictions, exit_gflops: np.ndarray, metric: Metric
) -> list[ExitCurve]:
    """Curves of both criteria, of random exits at the same shares, and of one exit for all.

    Args:
      calibration: what the thresholds are solved on.
      test: what is scored.
      exit_gflops: ``[E]`` cost of all exits of the model, in giga multiply-adds.
      metric: scores logits ``[n, K]`` of the test videos.
    """
    solved_on, scored = usable_exits(calibration), usable_exits(test)
    costs = exit_gflops[-scored.shape[1] :]
    curves = [early_exit_curve(solved_on, scored, costs, metric, criterion=name) for name in CRITERIA]
    return [
        *curves,
        random_exit_curve(curves[0], scored, costs, metric),
        fixed_exit_curve(scored, costs, metric),
    ]


def choose_policy(
    calibration: Predictions,
    exit_gflops: np.ndarray,
    *,
    budget_frac: float,
    calibration_split: str,
    criterion: str = "confidence",
    qs: Sequence[float] = SWEEP,
) -> ExitPolicy:
    """The policy that spends at most ``budget_frac`` of the full cost, on average over the calibration videos.

    Raises:
      UserError: ``budget_frac`` is outside (0, 1], or below what the cheapest policy of the sweep spends.
    """
    if not 0 < budget_frac <= 1:
        raise UserError(
            f"early-exit budget {budget_frac}: give a share of the full cost, above 0 and up to 1"
        )
    logits = usable_exits(calibration)
    costs = exit_gflops[-logits.shape[1] :]
    policies = [solve_policy(logits, q, criterion=criterion, calibration_split=calibration_split) for q in qs]
    spent = np.array([costs[policy.assign(logits)].mean() for policy in policies])
    affordable = spent <= budget_frac * costs[-1]
    if not affordable.any():
        raise UserError(
            f"early-exit budget {budget_frac}: leaving as early as possible already takes "
            f"{spent.min() / costs[-1]:.2f} of the full cost; give that much or more"
        )
    return policies[int(np.argmax(np.where(affordable, spent, -np.inf)))]


def store_policy(folder: str | os.PathLike[str], policy: ExitPolicy) -> Path:
    """Writes the policy beside the checkpoints in ``folder``, for ``predict`` to find; returns its path."""
    path = Path(folder) / POLICY_FILE
    partial = path.with_suffix(".partial")
    partial.write_text(policy.to_json(), encoding="utf-8")
    os.replace(partial, path)
    return path


def stored_policy(folder: str | os.PathLike[str]) -> ExitPolicy | None:
    """The policy beside the checkpoints in ``folder``, or None."""
    path = Path(folder) / POLICY_FILE
    return ExitPolicy.from_json(path.read_text(encoding="utf-8")) if path.is_file() else None

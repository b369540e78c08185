"""Early exit over whole splits: the curves of quality against cost, and the policies stored with a model."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from adafocus_jax.checkpoint.manifest import read_listed, write_listed
from adafocus_jax.early_exit import (
    CRITERIA,
    ExitCurve,
    ExitPolicy,
    early_exit_curve,
    fixed_exit_curve,
    policies_from_json,
    policies_to_json,
    random_exit_curve,
    solve_policy,
)
from adafocus_jax.early_exit.curves import SWEEP, Metric
from adafocus_jax.errors import UserError
from adafocus_jax.evaluate.predict import Predictions

POLICY_FILE = "early_exit.json"


def usable_exits(predictions: Predictions) -> np.ndarray:
    """Logits ``[n, F + 1, K]`` of the exits that count: the end of the glance, and every focus frame."""
    return predictions.exit_logits[:, -predictions.frame_indices.shape[1] - 1 :]


def sweep_exits(
    calibration: Predictions, test: Predictions, exit_gflops: np.ndarray, metric: Metric
) -> list[ExitCurve]:
    """Curves of all criteria, of random exits at the same shares, and of one exit for all.

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


def solve_policies(
    calibration: Predictions, exit_gflops: np.ndarray, calibration_split: str, qs: Sequence[float] = SWEEP
) -> tuple[ExitPolicy, ...]:
    """A policy for each criterion and share of the sweep, solved on ``calibration``; arguments as above."""
    logits = usable_exits(calibration)
    costs = exit_gflops[-logits.shape[1] :]
    return tuple(
        solve_policy(logits, costs, q, criterion=criterion, calibration_split=calibration_split)
        for criterion in CRITERIA
        for q in qs
    )


def store_policies(folder: str | os.PathLike[str], policies: Iterable[ExitPolicy]) -> Path:
    """Writes the policies beside the checkpoints in ``folder``, for ``predict`` to find; returns their path."""
    path = Path(folder) / POLICY_FILE
    write_listed(path, policies_to_json(policies))
    return path


def stored_policies(folder: str | os.PathLike[str]) -> tuple[ExitPolicy, ...]:
    """The policies beside the checkpoints in ``folder``; none if they were never solved.

    Raises:
      UserError: the file is damaged.
    """
    path = Path(folder) / POLICY_FILE
    anew = "adafocus evaluate --early-exit makes it anew"
    try:
        text = read_listed(path)
    except FileNotFoundError:
        return ()
    except UserError as error:
        raise UserError(f"{error}; {anew}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is damaged: {error}; {anew}") from error
    try:
        return policies_from_json(text)
    except UserError as error:
        raise UserError(f"{path} is damaged: {error}; {anew}") from error

"""Where a video leaves: thresholds solved on a calibration split, the policy that holds them.

Exits are in order of cost. A video leaves at the first exit whose score reaches the exit's threshold, and the
last exit takes everyone (paper, section on early exit; numbers as in the authors' release).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from adafocus_jax.early_exit.criteria import check_criterion, check_scores, exit_scores
from adafocus_jax.errors import UserError

NOBODY = 1e8
"""Threshold of an exit at which no one leaves (finite, so that it can be stored as JSON)."""
EVERYBODY = -1e8
"""Threshold of the last exit."""


@dataclass(frozen=True)
class ExitPolicy:
    """Which videos leave where: solved once, stored beside the checkpoint, applied at inference."""

    criterion: str
    """A key of ``CRITERIA``."""
    thresholds: tuple[float, ...]
    """E float32 values: the least score that leaves at each exit."""
    q: float
    """The share that the thresholds were solved for."""
    calibration_split: str
    """Name of the split that the thresholds were solved on."""
    num_calibration: int
    """Videos in that split."""
    cost_frac: float
    """Mean cost of those videos as a share of the full cost, in (0, 1]."""
    serving_thresholds: tuple[float, ...] = ()
    """E float32 values, midway between the score of the last calibration video that leaves and that of the first that
    stays: the same exits on that split, also when a score is computed with another rounding. Empty in files of
    earlier versions."""
    exit_shares: tuple[float, ...] = ()
    """E shares of the calibration videos, summing to 1: what leaves at each exit unless the videos have changed."""

    def __post_init__(self) -> None:
        check_criterion(self.criterion)
        for thresholds in (self.thresholds, self.serving):
            if len(thresholds) != max(2, len(self.thresholds)) or not np.isfinite(thresholds).all():
                raise UserError(
                    f"exit thresholds {thresholds}: give two or more finite numbers, one per exit"
                )

    @property
    def serving(self) -> tuple[float, ...]:
        """The thresholds to serve with."""
        return self.serving_thresholds or self.thresholds

    def assign(self, exit_logits: np.ndarray) -> np.ndarray:
        """The exit, 0…E−1, at which each video leaves: ``[n, E, K]`` logits to ``[n]`` int."""
        scores = exit_scores(exit_logits, self.criterion)
        return assign_exits(scores, np.asarray(self.thresholds, np.float32))


def policies_to_json(policies: Iterable[ExitPolicy]) -> str:
    """Policies as a JSON list; ``policies_from_json`` gives back equal ones."""
    return json.dumps([asdict(policy) for policy in policies], indent=1, allow_nan=False) + "\n"


def policies_from_json(text: str) -> tuple[ExitPolicy, ...]:
    """The policies that ``policies_to_json`` wrote.

    Raises:
      UserError: text that is no such list.
    """
    try:
        return tuple(ExitPolicy(**_with_tuples(fields)) for fields in json.loads(text))
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"not stored early-exit policies ({error}): solve the thresholds again") from error


def _with_tuples(fields: dict[str, Any]) -> dict[str, Any]:
    lists = ("thresholds", "serving_thresholds", "exit_shares")
    return fields | {name: tuple(map(float, fields[name])) for name in lists if name in fields}


def solve_policy(
    exit_logits: np.ndarray, exit_gflops: np.ndarray, q: float, *, criterion: str, calibration_split: str
) -> ExitPolicy:
    """The policy of share ``q``, solved on the ``[n, E, K]`` logits of ``calibration_split``; costs ``[E]``."""
    scores = exit_scores(exit_logits, criterion)
    thresholds = solve_thresholds(scores, q)
    exits = assign_exits(scores, thresholds)
    return ExitPolicy(
        criterion,
        tuple(thresholds.tolist()),
        float(q),
        calibration_split,
        num_calibration=len(exit_logits),
        cost_frac=float(np.mean(exit_gflops[exits]) / exit_gflops[-1]),
        serving_thresholds=tuple(midway_thresholds(scores, thresholds).tolist()),
        exit_shares=tuple((np.bincount(exits, minlength=scores.shape[1]) / len(exits)).tolist()),
    )


def exit_shares(q: float, num_exits: int) -> np.ndarray:
    """The share of videos meant to leave at each exit, ``p_k = q^k / Σ_j q^j`` for k = 0…E−1.

    Args:
      q: above 0; small leaves early, 1 is uniform, large leaves late.
      num_exits: E, at least 2.

    Returns:
      ``[E]`` float32, sums to 1.

    Raises:
      UserError: q not above 0, or fewer than 2 exits.

    Example:
      >>> exit_shares(0.5, 3).astype(float).round(3).tolist()
      [0.571, 0.286, 0.143]
    """
    if not 0 < q < np.inf:
        raise UserError(f"early-exit share q = {q}: give a number above 0, such as 0.5 (small leaves early)")
    if num_exits < 2:
        raise UserError(f"early exit with {num_exits} exit(s): the model needs 2 or more")
    # log q in float32, as the authors compute it: for q = 0.3, 300 · p_1 should be 63, comes out just below,
    # and their floor is 62. The rest in float64, so that it is the same on every machine.
    powers = float(np.float32(np.log(q))) * np.arange(num_exits)
    weights = np.exp(powers - powers.max())
    return (weights / weights.sum()).astype(np.float32)


def solve_thresholds(calibration_scores: np.ndarray, q: float) -> np.ndarray:
    """Thresholds at which the calibration videos leave in the shares of ``q``.

    Exit by exit, the ``floor(n · p_k)`` most confident of the videos that have not left yet leave at k (equal
    scores in the order given). The threshold is the score of the last of them; it is ``NOBODY`` where that
    number is 0, and ``EVERYBODY`` at the last exit.

    Args:
      calibration_scores: ``[n, E]`` from ``exit_scores``.
      q: as in ``exit_shares``.

    Returns:
      ``[E]`` float32.

    Raises:
      UserError: no calibration videos, NaN scores, fewer than 2 exits, or q not above 0.

    Example:
      >>> solve_thresholds(np.array([[3.0, 0.0], [1.0, 0.0], [2.0, 0.0], [0.0, 0.0]]), q=1.0).tolist()
      [2.0, -100000000.0]
    """
    scores = np.asarray(calibration_scores, np.float32)
    if scores.ndim != 2 or not len(scores):
        raise UserError(
            f"calibration scores of shape {scores.shape}: solving thresholds needs one video or more"
        )
    check_scores(scores)
    num_videos, num_exits = scores.shape
    # The product in float32, as the authors': float64 would floor 300 · 0.9 (q = 0.1) to 269.
    counts = np.floor(np.float32(num_videos) * exit_shares(q, num_exits)).astype(int)
    thresholds = np.full(num_exits, NOBODY, np.float32)
    staying = np.arange(num_videos)
    for k, count in enumerate(counts[:-1]):
        ranked = staying[np.argsort(-scores[staying, k], kind="stable")]
        leaving, staying = ranked[:count], np.sort(ranked[count:])
        if len(leaving):
            thresholds[k] = scores[leaving[-1], k]
    thresholds[-1] = EVERYBODY
    return thresholds


def midway_thresholds(calibration_scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Thresholds with the same exits on the calibration split, as far from every score there as they can be.

    ``solve_thresholds`` puts a threshold on the score of a calibration video, where the last digit decides; this one
    lies midway between that score and the largest among the videos that stay.

    Args:
      calibration_scores: ``[n, E]`` from ``exit_scores``.
      thresholds: ``[E]``, solved on them.

    Returns:
      ``[E]`` float32; those of exits at which no one leaves or no one stays are as given.

    Example:
      >>> midway_thresholds(np.array([[3.0, 0.0], [2.0, 0.0], [1.0, 0.0]]), np.array([2.0, -1e8])).tolist()
      [1.5, -100000000.0]
    """
    scores, midway = np.asarray(calibration_scores, np.float32), np.array(thresholds, np.float32)
    exits = assign_exits(scores, midway)
    for k in range(len(midway) - 1):
        leaving, staying = scores[exits == k, k], scores[exits > k, k]
        if len(leaving) and len(staying):
            middle = np.float32((float(leaving.min()) + float(staying.max())) / 2)
            midway[k] = max(middle, np.nextafter(staying.max(), np.float32(np.inf)))
    return midway


def assign_exits(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """The first exit whose score reaches its threshold; the last takes everyone who is left.

    Args:
      scores: ``[n, E]`` from ``exit_scores``.
      thresholds: ``[E]`` from ``solve_thresholds``.

    Returns:
      ``[n]`` int, 0…E−1.

    Raises:
      UserError: NaN scores, or thresholds of another number of exits.

    Example:
      >>> assign_exits(np.array([[0.9, 0.1], [0.1, 0.9], [0.1, 0.1]]), np.array([0.5, 0.5])).tolist()
      [0, 1, 1]
    """
    scores, thresholds = np.asarray(scores, np.float32), np.asarray(thresholds, np.float32)
    if scores.ndim != 2 or thresholds.shape != scores.shape[1:]:
        raise UserError(
            f"exit thresholds {thresholds.shape} for scores {scores.shape}: give one per exit of this model"
        )
    check_scores(scores)
    reached = scores >= thresholds
    reached[:, -1] = True
    return reached.argmax(axis=1)

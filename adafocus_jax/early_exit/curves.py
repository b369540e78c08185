"""What early exit buys: a quality metric against mean cost, over a sweep of q, beside two controls.

``early_exit_curve`` lets each video decide; ``random_exit_curve`` lets as many leave at each exit, but drawn
by lot; ``fixed_exit_curve`` lets all leave at the same exit. These are plain arrays, for others to draw.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from adafocus_jax.early_exit.criteria import exit_scores
from adafocus_jax.early_exit.thresholds import assign_exits, solve_thresholds
from adafocus_jax.errors import UserError
from adafocus_jax.io import writing

Metric = Callable[[np.ndarray], float]
"""From the ``[n, K]`` logits with which the videos left, in their order, to a number such as mAP in %."""

SWEEP = tuple(step / (20 - step) for step in range(1, 20))
"""Default q's, ``r / (1 − r)`` for r = 0.05 … 0.95: from nearly all leaving first to nearly all staying."""


@dataclass(frozen=True, eq=False)
class ExitCurve:
    """A metric against mean cost, at the points of a sweep."""

    name: str
    """What chose the exits."""
    gflops: np.ndarray
    """``[points]`` float64: mean cost of a video, in giga multiply-adds."""
    metric: np.ndarray
    """``[points]`` float64."""
    shares: np.ndarray
    """``[points, E]`` float64, rows sum to 1: videos that left at each exit."""
    q: np.ndarray | None = None
    """``[points]`` float64: the q of each point; None where there is none."""


def early_exit_curve(
    calibration_logits: np.ndarray,
    logits: np.ndarray,
    exit_gflops: np.ndarray,
    metric: Metric,
    *,
    criterion: str,
    qs: Sequence[float] = SWEEP,
) -> ExitCurve:
    """Every video leaves where it is sure enough, by thresholds solved on other videos.

    Args:
      calibration_logits: ``[m, E, K]`` float: what the thresholds are solved on.
      logits: ``[n, E, K]`` float: what is scored.
      exit_gflops: ``[E]``: the whole cost of a video that leaves at each exit, in giga multiply-adds.
      metric: scores the logits with which the videos left.
      criterion: as in ``exit_scores``.
      qs: one point each, as in ``exit_shares``.

    Raises:
      UserError: see ``exit_scores`` and ``solve_thresholds``; or costs of another number of exits.
    """
    calibration_scores, scores = exit_scores(calibration_logits, criterion), exit_scores(logits, criterion)
    exits = [assign_exits(scores, solve_thresholds(calibration_scores, q)) for q in qs]
    values = [metric(_taken(logits, taken)) for taken in exits]
    return _curve(
        f"early exit ({criterion})", exits, values, exit_gflops, logits.shape[1], np.asarray(qs, float)
    )


def random_exit_curve(
    curve: ExitCurve,
    logits: np.ndarray,
    exit_gflops: np.ndarray,
    metric: Metric,
    *,
    seed: int = 0,
    num_draws: int = 5,
) -> ExitCurve:
    """As many videos leave at each exit as on ``curve``, but drawn by lot: same cost, no judgement.

    Args:
      curve: of ``early_exit_curve`` on the same ``logits``.
      logits: ``[n, E, K]`` float.
      exit_gflops: ``[E]``, as there.
      metric: as there; averaged over the draws.
      seed: of the lots.
      num_draws: lots per point.
    """
    rng = np.random.default_rng(seed)
    counts = np.rint(curve.shares * len(logits)).astype(int)
    exits = [np.repeat(np.arange(logits.shape[1]), count) for count in counts]
    values = [
        float(np.mean([metric(_taken(logits, rng.permutation(taken))) for _ in range(num_draws)]))
        for taken in exits
    ]
    return _curve("random exits", exits, values, exit_gflops, logits.shape[1], curve.q)


def fixed_exit_curve(logits: np.ndarray, exit_gflops: np.ndarray, metric: Metric) -> ExitCurve:
    """All videos leave at the same exit; one point per exit. Arguments as in ``early_exit_curve``."""
    num_videos, num_exits = logits.shape[:2]
    exits = [np.full(num_videos, exit_) for exit_ in range(num_exits)]
    values = [metric(_taken(logits, taken)) for taken in exits]
    return _curve("fixed depth", exits, values, exit_gflops, num_exits)


def write_curve_csv(path: str | Path, curves: Sequence[ExitCurve], *, metric_name: str) -> None:
    """Writes one row per point: ``curve, q, gflops, METRIC, share_0 … share_E−1``; whole or not at all.

    Raises:
      UserError: a place that cannot be written.
    """
    try:
        with writing(path) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            num_exits = curves[0].shares.shape[1]
            writer.writerow(["curve", "q", "gflops", metric_name, *(f"share_{k}" for k in range(num_exits))])
            for curve in curves:
                writer.writerows(_rows(curve))
    except OSError as error:
        raise UserError(f"cannot write the curve to {path} ({error.strerror}): give another place") from error


def _rows(curve: ExitCurve) -> list[list[object]]:
    q = [""] * len(curve.gflops) if curve.q is None else curve.q.tolist()
    columns = zip(q, curve.gflops.tolist(), curve.metric.tolist(), curve.shares.tolist(), strict=True)
    return [[curve.name, q_, gflops, metric, *shares] for q_, gflops, metric, shares in columns]


def _taken(logits: np.ndarray, exits: np.ndarray) -> np.ndarray:
    return logits[np.arange(len(logits)), exits]


def _curve(
    name: str,
    exits: Sequence[np.ndarray],
    values: Sequence[float],
    exit_gflops: np.ndarray,
    num_exits: int,
    q: np.ndarray | None = None,
) -> ExitCurve:
    cost = np.asarray(exit_gflops, np.float64)
    if cost.shape != (num_exits,):
        raise UserError(f"costs of {cost.size} exits for logits of {num_exits}: give one cost per exit")
    shares = np.stack([np.bincount(taken, minlength=num_exits) / len(taken) for taken in exits])
    return ExitCurve(name, gflops=shares @ cost, metric=np.asarray(values, np.float64), shares=shares, q=q)

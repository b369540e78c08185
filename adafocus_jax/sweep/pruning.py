"""Which running trials are not worth their time: decided on evaluations at equal steps, as the folders tell them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from adafocus_jax.sweep.objectives import pareto_front

REDUCTION = 3
"""ASHA continues one in so many at each rung (Li et al., *A System for Massively Parallel Hyperparameter Tuning*)."""
STARTUP = 4
"""Trials that the median needs."""

Scores = Mapping[int, Sequence[tuple[int, tuple[float, ...]]]]
"""Trial to (step, objectives with more being better) at each evaluation."""


def asha(scores: Scores, trial: int) -> bool:
    """Whether asynchronous successive halving stops a trial at its newest rung.

    Rungs are the evaluations number 1, 3, 9, … A trial goes on if it ranks in the first third of all that have reached
    the rung; of several objectives, by non-dominated fronts.
    """
    count = len(scores[trial])
    rung = 1
    while rung * REDUCTION <= count:
        rung *= REDUCTION
    if rung > count:
        return False
    reached = {number: seen[rung - 1][1] for number, seen in scores.items() if len(seen) >= rung}
    if len(reached) < REDUCTION:
        return False
    ranks = _fronts(np.array(list(reached.values())))
    ahead = sum(rank < ranks[list(reached).index(trial)] for rank in ranks)
    return bool(ahead >= -(-len(reached) // REDUCTION))


def median(scores: Scores, trial: int) -> bool:
    """Whether the best value of a trial so far lies below the median of the others at the same evaluation."""
    count = len(scores[trial])
    others = [
        max(v[0] for _, v in seen[:count])
        for number, seen in scores.items()
        if number != trial and len(seen) >= count
    ]
    if not count or len(others) < STARTUP:
        return False
    return max(value[0] for _, value in scores[trial]) < float(np.median(others))


def _fronts(values: np.ndarray) -> np.ndarray:
    """``[n]``: the number of the non-dominated front of each row of ``values [n, d]``, 0 the first.

    >>> _fronts(np.array([[3.0], [1.0], [2.0]])).tolist()
    [0, 2, 1]
    """
    ranks = np.full(len(values), -1)
    rank = 0
    while (left := np.flatnonzero(ranks < 0)).size:
        ranks[left[pareto_front(values[left])]] = rank
        rank += 1
    return ranks


PRUNERS = {"asha": asha, "median": median}

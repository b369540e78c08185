"""What a sweep is judged by: metrics of evaluations, cost, time, accuracy at a budget of early exit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from adafocus_jax.early_exit import CRITERIA
from adafocus_jax.errors import UserError

METRICS = ("top1", "top5", "mAP")
COSTS = ("gflops", "seconds")


@dataclass(frozen=True)
class Objective:
    """A number of a trial. ``METRIC@SHARE[:CRITERION]``: when early exit may spend that share of the full cost."""

    name: str

    @property
    def metric(self) -> str:
        """Its metric, without the budget."""
        return self.name.partition("@")[0]

    @property
    def budget(self) -> float | None:
        """The share of the full cost; None: no early exit."""
        share = self.name.partition("@")[2].partition(":")[0]
        return float(share) if share else None

    @property
    def criterion(self) -> str:
        """By which videos leave early."""
        return self.name.partition(":")[2] or "confidence"

    @property
    def minimize(self) -> bool:
        """Whether less is better."""
        return self.name in COSTS

    def better(self, value: float) -> float:
        """The value with its sign such that more is better."""
        return -value if self.minimize else value


def parse_objectives(text: str) -> tuple[Objective, ...]:
    """The objectives of ``NAME[,NAME…]``, the first one sorts the report.

    >>> [o.minimize for o in parse_objectives("top1@0.5,gflops")]
    [False, True]

    Raises:
      UserError: an unknown name, or a budget outside (0, 1].
    """
    objectives = tuple(Objective(name.strip()) for name in text.split(","))
    for one in objectives:
        try:
            known = one.name in COSTS or (
                one.metric in METRICS
                and 0 < (1.0 if one.budget is None else one.budget) <= 1
                and one.criterion in CRITERIA
                and (":" not in one.name or one.budget is not None)
            )
        except ValueError:
            known = False
        if not known:
            names = ", ".join((*METRICS, *(f"{metric}@SHARE[:CRITERION]" for metric in METRICS), *COSTS))
            raise UserError(f"objective {one.name!r} is not known: choose among {names}")
    return objectives


def pareto_front(values: np.ndarray) -> np.ndarray:
    """Which rows of ``values [n, d]`` (more is better) no other row dominates: ``[n]`` bool.

    >>> pareto_front(np.array([[1.0, 1.0], [2.0, 0.0], [0.5, 0.5]])).tolist()
    [True, True, False]
    """
    at_least = (values[None] >= values[:, None]).all(axis=2)
    more = (values[None] > values[:, None]).any(axis=2)
    dominated: np.ndarray = np.any(at_least & more, axis=1)
    return ~dominated


def at_budget(curve: Mapping[str, Sequence[float]], metric: str, share: float, full_gflops: float) -> float:
    """The best value of an early-exit curve within a share of the full cost; NaN: no point is that cheap."""
    affordable = np.asarray(curve["gflops"]) <= share * full_gflops * (1 + 1e-9)
    return float(np.max(np.asarray(curve[metric])[affordable])) if affordable.any() else float("nan")


def values_of(result: Mapping[str, Any] | None, objectives: Sequence[Objective]) -> list[float] | None:
    """The objectives of a finished trial's result; None where it has not all of them."""
    found = (result or {}).get("objectives", {})
    return [found[one.name] for one in objectives] if all(one.name in found for one in objectives) else None

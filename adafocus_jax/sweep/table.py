"""The trials of a sweep as rows: what differs, what came of it, seeds gathered."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.markup import escape
from rich.table import Table

from adafocus_jax.sweep.folder import Trial
from adafocus_jax.sweep.objectives import Objective

SEED = "seed"


@dataclass(frozen=True)
class Row:
    """Trials that differ in nothing but the seed; one trial where no seed is swept."""

    trials: tuple[Trial, ...]
    settings: dict[str, Any]
    """The swept keys that differ between trials, the seed left out."""
    values: dict[str, tuple[float, float, int]]
    """Objective to mean, standard deviation over seeds (NaN of one) and number of values."""

    def text(self, objective: str) -> str:
        """Mean and spread of an objective."""
        return figure(self.values[objective])

    @property
    def state(self) -> str:
        """The state of its trials, or how many are done."""
        states = {trial.state for trial in self.trials}
        done = sum(trial.state == "done" for trial in self.trials)
        return states.pop() if len(states) == 1 else f"{done} of {len(self.trials)} done"


def differing_keys(trials: Sequence[Trial]) -> list[str]:
    """The keys whose values differ between trials, in the order in which they first appear."""
    keys = dict.fromkeys(key for trial in trials for key in trial.overrides)
    return [key for key in keys if len({repr(trial.overrides.get(key)) for trial in trials}) > 1]


def rows(trials: Sequence[Trial], objectives: Sequence[Objective]) -> list[Row]:
    """Rows, the best by the first objective first, those without a value last."""
    keys = [key for key in differing_keys(trials) if key != SEED]
    groups: dict[str, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(repr([trial.overrides.get(key) for key in keys]), []).append(trial)
    found = []
    for members in groups.values():
        settings = {key: members[0].overrides.get(key, "") for key in keys}
        found.append(Row(tuple(members), settings, {one.name: _spread(members, one) for one in objectives}))
    first = objectives[0]
    return sorted(found, key=lambda row: _order(row, first))


def terminal_table(best: Sequence[Row]) -> Table:
    """The rows for a terminal; names and values as they are."""
    keys, names = (list(best[0].settings), list(best[0].values)) if best else ([], [])
    table = Table("trial", *map(escape, (*keys, *names)), "state")
    for row in best:
        cells = [str(row.settings[key]) for key in keys] + [row.text(name) for name in names]
        table.add_row(", ".join(str(trial.number) for trial in row.trials), *map(escape, cells), row.state)
    return table


def write_csv(trials: Sequence[Trial], objectives: Sequence[Objective]) -> str:
    """One line per trial, by number: state, swept settings, objectives, seconds, reason."""
    keys = differing_keys(trials)
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow(["trial", "state", *keys, *(one.name for one in objectives), "seconds", "reason"])
    for trial in trials:
        result = trial.result or {}
        values = [result.get("objectives", {}).get(one.name, "") for one in objectives]
        seconds = f"{result['seconds']:.1f}" if "seconds" in result else ""
        settings = [trial.overrides.get(key, "") for key in keys]
        out.writerow([trial.number, trial.state, *settings, *values, seconds, result.get("reason", "")])
    return text.getvalue()


def figure(value: tuple[float, float, int]) -> str:
    """Mean and spread as text.

    >>> figure((81.25, 1.5, 3)), figure((81.25, float("nan"), 1)), figure((float("nan"), float("nan"), 0))
    ('81.25 ± 1.50 (3)', '81.25', '')
    """
    mean, spread, count = value
    if not count:
        return ""
    return f"{mean:.4g}" if count == 1 else f"{mean:.4g} ± {spread:.2f} ({count})"


def importance(trials: Sequence[Trial], objective: Objective) -> dict[str, float]:
    """How much of the objective's variance the values of each key explain alone: ``[0, 1]``, largest first.

    The correlation ratio η² = Σ_v n_v (mean_v − mean)² / Σ (y − mean)² over the done trials; numbers with more than
    eight values are put into quartiles first. Of few trials it says little: chance alone gives (values − 1)/(n − 1).
    """
    done = [trial for trial in trials if trial.state == "done" and trial.result]
    keys = differing_keys(done)
    y = np.array([trial.result["objectives"][objective.name] for trial in done if trial.result], np.float64)
    total = float(((y - y.mean()) ** 2).sum()) if len(y) > 1 else 0.0
    if total <= 0:
        return dict.fromkeys(keys, 0.0)
    shares = {key: _between([trial.overrides.get(key) for trial in done], y) / total for key in keys}
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def _between(values: Sequence[Any], y: np.ndarray) -> float:
    names = [repr(value) for value in values]
    if len(set(names)) > 8 and all(isinstance(value, int | float) for value in values):
        edges = np.quantile(np.array(values, np.float64), (0.25, 0.5, 0.75))
        names = [str(np.searchsorted(edges, value)) for value in values]
    groups = np.array(names)
    return float(sum((groups == g).sum() * (y[groups == g].mean() - y.mean()) ** 2 for g in set(names)))


def _spread(trials: Sequence[Trial], objective: Objective) -> tuple[float, float, int]:
    results = [trial.result for trial in trials if trial.result]
    found = [r["objectives"][objective.name] for r in results if objective.name in r["objectives"]]
    if not found:
        return math.nan, math.nan, 0
    return float(np.mean(found)), float(np.std(found, ddof=1)) if len(found) > 1 else math.nan, len(found)


def _order(row: Row, first: Objective) -> tuple[bool, float, int]:
    mean, _, count = row.values[first.name]
    return count == 0, -first.better(mean) if count else 0.0, row.trials[0].number

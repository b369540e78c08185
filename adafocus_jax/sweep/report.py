"""One page about a sweep: table, parallel coordinates, importance, accuracy against cost, learning curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from adafocus_jax.sweep.folder import SweepFolder, Trial
from adafocus_jax.sweep.objectives import Objective, pareto_front, values_of
from adafocus_jax.sweep.overrides import describe
from adafocus_jax.sweep.table import differing_keys, importance, rows
from adafocus_jax.sweep.trial import evaluations
from adafocus_jax.visualize.curves import Series, cost_unit
from adafocus_jax.visualize.report import Headline, Picture, Report, Section, Table
from adafocus_jax.visualize.style import (
    CHOSEN,
    INK,
    MARKERS,
    MUTED,
    PALETTE,
    TEXT_PX,
    add_legend,
    dress,
    new_figure,
    shorten,
    to_image,
    write_text,
)

MAX_CURVES = 7
"""Learning curves that are named; the others are grey."""


def sweep_report(sweep: SweepFolder, objectives: Sequence[Objective]) -> Report:
    """The page, from whatever the folder holds: also of a sweep that runs."""
    spec, trials = sweep.spec(), sweep.trials()
    states = {
        state: sum(trial.state == state for trial in trials) for state in ("done", "running", "waiting")
    }
    lost = [trial for trial in trials if trial.state in ("failed", "pruned")]
    best = rows(trials, objectives)
    headlines = [
        Headline(f"{states['done']} of {len(trials)}", "trials done", f"{states['running']} running")
    ]
    for one in objectives:
        if best and best[0].values[one.name][2]:
            headlines.append(Headline(best[0].text(one.name), one.name, "of the best trial"))
    sections = [Section("Trials, the best first", content=(_table(best, objectives),))]
    done = [trial for trial in trials if values_of(trial.result, objectives) is not None]
    if len(done) > 1:
        sections += _pictures(done, objectives)
    if any(evaluations(trial, objectives[0].metric) for trial in trials):
        picture = Picture(
            _curves(trials, best, objectives[0]), "Evaluations during training.", "Learning curves"
        )
        sections.append(Section("Learning curves", content=(picture,)))
    if lost:
        reasons = tuple(
            (str(t.number), t.state, describe(t.overrides), str((t.result or {}).get("reason", "")))
            for t in lost
        )
        sections.append(
            Section(
                "Failed and stopped early",
                content=(Table("", ("trial", "state", "settings", "reason"), reasons),),
            )
        )
    summary = f"{len(trials)} trials of {spec['config']}; objectives: {', '.join(spec['objectives'])}."
    return Report(f"Sweep {sweep.path.name}", (summary,), tuple(headlines), tuple(sections))


def _table(best: Sequence[Any], objectives: Sequence[Objective]) -> Table:
    keys = list(best[0].settings) if best else []
    cells = tuple(
        (
            ", ".join(str(trial.number) for trial in row.trials),
            *(str(row.settings[key]) for key in keys),
            *(row.text(one.name) for one in objectives),
            row.state,
        )
        for row in best
    )
    return Table(
        "Mean ± standard deviation (number of seeds)",
        ("trial", *keys, *(o.name for o in objectives), "state"),
        cells,
    )


def _pictures(done: Sequence[Trial], objectives: Sequence[Objective]) -> list[Section]:
    first = objectives[0]
    shares = importance(done, first)
    found = [
        Section(
            "Settings against the objective",
            (f"Each line is a trial, coloured by {first.name}.",),
            (
                Picture(
                    _parallel(done, first),
                    "Parallel coordinates.",
                    f"Settings of the trials against {first.name}",
                ),
            ),
        )
    ]
    if shares:
        text = f"Share of the variance of {first.name} that the values of one setting explain alone (η²)."
        found.append(
            Section("Importance", (text,), (Picture(_bars(shares), "Importance.", "Bars of importance"),))
        )
    costs = [one for one in objectives if one.minimize]
    if costs and not first.minimize:
        text = "Trials that no other one beats in both are joined by a line: the Pareto front."
        picture = Picture(
            _front(done, costs[0], first), f"{first.name} against {costs[0].name}.", "Pareto front"
        )
        found.append(Section(f"{first.name} against {costs[0].name}", (text,), (picture,)))
    return found


def _leaf(key: str) -> str:
    """A key without its sections, which pictures have no room for."""
    return key.rpartition(".")[2]


def _settings(trial: Trial, keys: Sequence[str]) -> str:
    return describe({_leaf(key): trial.overrides[key] for key in keys if key in trial.overrides})


def _value(trial: Trial, objective: Objective) -> float:
    return float((trial.result or {})["objectives"][objective.name])


def _parallel(done: Sequence[Trial], objective: Objective) -> np.ndarray:
    keys = differing_keys(done)
    columns = [[trial.overrides.get(key, "") for trial in done] for key in keys]
    columns.append([_value(trial, objective) for trial in done])
    heights = [_heights(column) for column in columns]
    order = np.argsort([objective.better(_value(trial, objective)) for trial in done])
    drawing = new_figure(680)
    axes = drawing.add_subplot()
    shades = np.linspace(0.15, 1, len(done))
    for shade, i in zip(shades, order, strict=True):
        line = [height[int(i)] for height in heights]
        axes.plot(
            range(len(line)), line, color=CHOSEN if i == order[-1] else PALETTE[0], alpha=shade, linewidth=3
        )
    for x, (name, column, height) in enumerate(zip([*keys, objective.name], columns, heights, strict=True)):
        axes.axvline(x, color=MUTED, linewidth=1.5)
        for label, y in _ticks(column, height):
            write_text(
                axes,
                x,
                y,
                f" {shorten(label, 16)}",
                TEXT_PX - 6,
                INK,
                va="center",
                backgroundcolor="#ffffffc0",
            )
        # Two rows of names: neighbours would run into each other.
        write_text(axes, x, 1.06 + 0.08 * (x % 2), shorten(_leaf(name), 24), TEXT_PX - 4, INK, ha="center")
    axes.set(xlim=(-0.2, len(keys) + 0.6), ylim=(-0.05, 1.22))
    axes.axis("off")
    return to_image(drawing)


def _heights(column: Sequence[Any]) -> np.ndarray:
    """Where the values of a column stand, 0 … 1: numbers on a scale (logarithmic over two decades), others evenly."""
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in column):
        y = np.array(column, np.float64)
        if (y > 0).all() and y.max() > 99 * y.min():
            y = np.log(y)
        spread = y.max() - y.min()
        return (y - y.min()) / spread if spread else np.full(len(y), 0.5)
    names = sorted({repr(value) for value in column})
    places = {name: i / max(len(names) - 1, 1) for i, name in enumerate(names)}
    return np.array([places[repr(value)] for value in column])


def _ticks(column: Sequence[Any], heights: np.ndarray) -> list[tuple[str, float]]:
    """Up to six labels of a column."""
    found = {float(y): value for y, value in zip(heights, column, strict=True)}
    places = sorted(found)
    chosen = [
        places[i] for i in np.unique(np.linspace(0, len(places) - 1, min(len(places), 6)).round().astype(int))
    ]
    return [(f"{found[y]:.4g}" if isinstance(found[y], float) else str(found[y]), y) for y in chosen]


def _bars(shares: dict[str, float]) -> np.ndarray:
    drawing = new_figure(120 + 60 * len(shares))
    axes = drawing.add_subplot()
    names = list(shares)[::-1]
    axes.barh(range(len(names)), [100 * shares[name] for name in names], color=PALETTE[0])
    axes.set_yticks(range(len(names)), [_leaf(name) for name in names])
    axes.set_xlim(0, 100)
    dress(axes, "share of the variance (%)", "")
    return to_image(drawing)


def _front(done: Sequence[Trial], cost: Objective, quality: Objective) -> np.ndarray:
    x, y = (np.array([_value(trial, one) for trial in done]) for one in (cost, quality))
    best = pareto_front(np.stack([-x, y], axis=1))
    unit = cost.name
    if cost.name == "gflops":
        unit, x = cost_unit(x)
    drawing = new_figure(600)
    axes = drawing.add_subplot()
    axes.plot(x[~best], y[~best], "o", color=MUTED, markersize=11, label="dominated")
    order = np.argsort(x[best])
    axes.plot(
        x[best][order], y[best][order], "D-", color=CHOSEN, markersize=12, linewidth=3, label="Pareto front"
    )
    for i in np.flatnonzero(best).tolist():
        write_text(axes, x[i], y[i], f"  {done[i].number}", TEXT_PX - 4, INK)
    dress(axes, unit, quality.name)
    add_legend(drawing, axes.get_legend_handles_labels()[0], columns=2)
    return to_image(drawing)


def _curves(trials: Sequence[Trial], best: Sequence[Any], objective: Objective) -> np.ndarray:
    drawing = new_figure(800)
    axes = drawing.add_subplot()
    ranked, keys = [trial for row in best for trial in row.trials], differing_keys(trials)
    for i, trial in reversed(list(enumerate(ranked))):
        points = evaluations(trial, objective.metric)
        if not points:
            continue
        named = i < MAX_CURVES
        series = Series(f"{trial.number}: {shorten(_settings(trial, keys), 44)}", *zip(*points, strict=True))
        colour, marker = (PALETTE[i], MARKERS[i]) if named else (MUTED, "")
        (line,) = axes.plot(
            series.x, series.y, color=colour, marker=marker, linewidth=3 if named else 1.5, markersize=9
        )
        line.set_label(series.name if named else "_")
    dress(axes, "step", objective.metric)
    handles = axes.get_legend_handles_labels()[0]
    add_legend(drawing, handles[::-1], columns=1)
    return to_image(drawing)

"""Curves: what the temporal policy weighed, how exits score, what accuracy costs, how training went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from adafocus_jax.errors import UserError
from adafocus_jax.types import VideoPrediction
from adafocus_jax.visualize.frames import true_boxes
from adafocus_jax.visualize.style import (
    CHOSEN,
    GLANCE,
    INK,
    MARKERS,
    MUTED,
    PALETTE,
    TEXT_PX,
    TRUTH,
    add_legend,
    dress,
    new_figure,
    shorten,
    to_image,
    write_text,
)

FEW = 12
"""Points of training that are marked one by one."""


@dataclass(frozen=True)
class Series:
    """One named line, or one named point where it holds a single pair."""

    name: str
    x: Sequence[float] | np.ndarray
    y: Sequence[float] | np.ndarray


def temporal_weights(prediction: VideoPrediction) -> np.ndarray:
    """Draws the temporal policy's weights over the video's time, with the chosen frames: RGB uint8.

    The G weights are a piecewise-constant density over the N candidates. Where ``prediction.extra`` holds
    ``true_boxes`` (see ``frames.contact_sheet``), the time in which the thing is there is shaded.

    Raises:
      UserError: the video left before the policy ran.
    """
    if not len(prediction.frame_weights):
        raise UserError(f"{prediction.name} left at exit {prediction.exit}, before the temporal policy ran")
    figure = new_figure(500)
    axes = figure.add_subplot()
    edges = candidate_edges_sec(prediction.candidate_times_sec)
    bins, borders = len(prediction.frame_weights), weight_edges_sec(prediction)
    axes.stairs(prediction.frame_weights, borders, fill=True, color=GLANCE, alpha=0.25)
    axes.stairs(prediction.frame_weights, borders, color=GLANCE, linewidth=3)
    axes.axhline(1 / bins, color=MUTED, linewidth=3, linestyle=":")
    top = 1.15 * max(prediction.frame_weights.max(), 1 / bins)
    chosen = prediction.times_sec
    axes.vlines(chosen, 0, top, color=CHOSEN, linewidth=2.5)
    axes.plot(chosen, np.full(len(chosen), top), "v", color=CHOSEN, markersize=14, clip_on=False)
    handles = [
        Patch(facecolor=GLANCE, alpha=0.4, label="weight of each glance frame"),
        Line2D([], [], color=CHOSEN, linewidth=3, marker="v", markersize=14, label="chosen frames"),
        Line2D([], [], color=MUTED, linewidth=3, linestyle=":", label="uniform"),
    ]
    there = ~np.isnan(true_boxes(prediction)[:, 0])
    if there.any():
        for start, end in zip(edges[:-1][there], edges[1:][there], strict=True):
            axes.axvspan(start, end, color=TRUTH, alpha=0.2, linewidth=0)
        handles.append(Patch(facecolor=TRUTH, alpha=0.2, label="figure in the frame"))
    axes.set(xlim=(edges[0], edges[-1]), ylim=(0, top))
    dress(axes, "time in the video (s)", "weight")
    add_legend(figure, handles, columns=2)
    return to_image(figure)


def candidate_edges_sec(times_sec: np.ndarray) -> np.ndarray:
    """Borders of the N stretches of video that the candidates stand for, ``[N + 1]`` seconds.

    >>> candidate_edges_sec(np.array([0.5, 1.5, 2.5]))
    array([0., 1., 2., 3.])
    """
    if len(times_sec) == 1:
        return np.array([times_sec[0] - 0.5, times_sec[0] + 0.5])
    middles = (times_sec[1:] + times_sec[:-1]) / 2
    return np.array([2 * times_sec[0] - middles[0], *middles, 2 * times_sec[-1] - middles[-1]])


def weight_edges_sec(prediction: VideoPrediction) -> np.ndarray:
    """Borders of the G stretches of video over which the temporal policy's weights spread, ``[G + 1]`` seconds."""
    edges, bins = candidate_edges_sec(prediction.candidate_times_sec), len(prediction.frame_weights)
    return np.interp(np.linspace(0, len(edges) - 1, bins + 1), np.arange(len(edges)), edges)


def class_scores(prediction: VideoPrediction) -> np.ndarray:
    """Draws the probabilities of the five leading classes at each exit that was computed, over its cost: RGB uint8.

    Leading: with the greatest probability at any exit. A line marks the exit at which the video left early.
    """
    scores = prediction.exit_probabilities
    leading = np.argsort(-scores.max(axis=0), kind="stable")[:5]
    order = leading[np.argsort(-scores[prediction.exit, leading], kind="stable")]
    figure = new_figure(600)
    axes = figure.add_subplot()
    unit, costs = cost_unit(prediction.exit_gflops)
    handles = [
        _line(axes, i, Series(shorten(prediction.classes[k], 26), costs[: len(scores)], 100 * scores[:, k]))
        for i, k in enumerate(order)
    ]
    axes.set(ylim=(-3, 103))
    if len(scores) < len(costs):  # Show how much further it could have gone.
        axes.set_xlim(right=1.02 * costs[-1])
    if prediction.exit < len(costs) - 1:
        _mark_exit(axes, costs[prediction.exit], right=prediction.exit > len(costs) / 2)
    dress(axes, f"cost up to the exit ({unit}, multiply-adds)", "probability (%)")
    add_legend(figure, handles, columns=2)
    return to_image(figure)


def accuracy_cost(series: Sequence[Series], ylabel: str = "top-1 accuracy (%)") -> np.ndarray:
    """Draws accuracy over mean cost per video (x in GFLOPs), one line or point per series: RGB uint8."""
    figure = new_figure(600)
    axes = figure.add_subplot()
    unit, _ = cost_unit(np.concatenate([np.asarray(one.x, np.float64) for one in series]))
    handles = [_line(axes, i, Series(s.name, cost_unit(s.x, unit)[1], s.y)) for i, s in enumerate(series)]
    dress(axes, f"mean cost per video ({unit}, multiply-adds)", ylabel)
    add_legend(figure, handles, columns=1 if max(len(one.name) for one in series) > 30 else 2)
    return to_image(figure)


def training_curves(rows: Sequence[Mapping[str, float]], panels: Mapping[str, Sequence[str]]) -> np.ndarray:
    """Draws metrics over training steps, one panel per entry: RGB uint8.

    ``rows``: lines of metrics.jsonl, each with ``step`` and some metrics. ``panels``: y label → names of the
    metrics in that panel; a name that no row holds is left out. Long noisy series get a running mean on top.
    """
    figure = new_figure(430 * len(panels))
    rooms = figure.subplots(len(panels), sharex=True, squeeze=False)[:, 0]
    for axes, (ylabel, names) in zip(rooms, panels.items(), strict=True):
        for i, name in enumerate(names):
            points = np.array([(row["step"], row[name]) for row in rows if name in row], np.float64)
            if len(points):
                _training_line(axes, PALETTE[i % len(PALETTE)], name, points)
        dress(axes, "step", ylabel)
        axes.label_outer()
        add_legend(axes, axes.get_legend_handles_labels()[0], columns=3 if max(map(len, names)) < 17 else 2)
    return to_image(figure)


def cost_unit(gflops: Sequence[float] | np.ndarray, unit: str | None = None) -> tuple[str, np.ndarray]:
    """A unit in which costs read well, and the costs in it.

    >>> cost_unit([0.002, 0.011])
    ('MFLOPs', array([ 2., 11.]))
    """
    costs = np.asarray(gflops, np.float64)
    unit = unit or ("GFLOPs" if costs.max() >= 1 else "MFLOPs")
    return unit, costs * (1 if unit == "GFLOPs" else 1000)


def _line(axes: Axes, i: int, series: Series) -> Line2D:
    colour, marker = PALETTE[i % len(PALETTE)], MARKERS[i % len(MARKERS)]
    width = 3 if len(series.x) > 1 else 0
    (line,) = axes.plot(series.x, series.y, color=colour, marker=marker, markersize=11, linewidth=width)
    line.set_label(series.name)
    return line


def _mark_exit(axes: Axes, cost: float, right: bool) -> None:
    axes.axvline(cost, color=INK, linewidth=2.5, linestyle="--")
    text, side = (" left here", "left") if not right else ("left here ", "right")
    write_text(axes, cost, 50, text, TEXT_PX - 2, INK, ha=side, backgroundcolor="white")


def _training_line(axes: Axes, colour: str, name: str, points: np.ndarray) -> None:
    steps, values = points.T
    window = max(len(values) // 25, 1)
    if window > 1:
        axes.plot(steps, values, color=colour, linewidth=1.5, alpha=0.3)
    mean = np.convolve(values, np.full(window, 1 / window), mode="valid")
    first = (window - 1) // 2
    marker = "o" if len(values) <= FEW else None  # a line through one point is no line
    shown = slice(first, first + len(mean))
    axes.plot(steps[shown], mean, color=colour, linewidth=3, marker=marker, markersize=11, label=name)

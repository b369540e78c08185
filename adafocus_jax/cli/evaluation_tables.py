"""What ``adafocus evaluate`` prints and draws."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from adafocus_jax.early_exit import ExitCurve, write_curve_csv
from adafocus_jax.evaluate.evaluators import METRICS
from adafocus_jax.visualize.curves import Series, accuracy_cost
from adafocus_jax.visualize.files import write_png


def print_line(line: str) -> None:
    """A line, as it is."""
    Console().print(line, highlight=False, soft_wrap=True, markup=False)


def print_scores(figures: dict[str, Any], metric: str) -> None:
    """The scores, and those of all exits."""
    title = f"{figures['split']}: {figures['videos']} videos, checkpoint of step {figures['step']}"
    scores = {name: figures[name] for name in METRICS}
    table = Table(*(f"{name} %" for name in scores), "gflops", title=title)
    table.add_row(*(f"{value:.1f}" for value in scores.values()), f"{figures['gflops']:.3g}")
    Console().print(table)
    print_line(f"{metric} % by exit: " + " ".join(f"{value:.0f}" for value in figures["exits"].values()))


def print_controls(rows: list[dict[str, Any]]) -> None:
    """The controls beside the learned policies."""
    title = "What the policies are worth: same encoders, same patches"
    table = Table("patches", "frames", "top-1 %", "mAP %", title=title)
    for row in rows:
        table.add_row(row["spatial"], row["temporal"], f"{row['top1']:.1f}", f"{row['mAP']:.1f}")
    Console().print(table)


def write_curves(out: Path, curves: Sequence[ExitCurve], metric: str) -> None:
    """The curves of quality against cost as a table and a picture."""
    series = [Series(curve.name, curve.gflops, curve.metric) for curve in curves]
    write_curve_csv(out / "early_exit.csv", curves, metric_name=metric)
    write_png(out / "early_exit.png", accuracy_cost(series, f"{metric} (%)"))


def print_comparison(figures: dict[str, Any], backend: str, precision: str) -> None:
    """What another backend or precision changes."""
    found = figures["compared_to_xla"]
    print_line(
        f"{backend} in {precision} against XLA: {found['changed']} of {figures['videos']} predictions differ, "
        f"top-1 {figures['top1']:.2f}% against {found['top1']:.2f}%"
    )

"""The table of ``adafocus benchmark inference --against torch``."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from adafocus_jax.benchmark.against_torch import benchmark_against_torch


def print_against_torch() -> dict[str, Any]:
    """Measures, prints, and returns the figures."""
    with Console(stderr=True).status("starting") as status:
        rows = benchmark_against_torch(progress=status.update)
    title = "uni_adafocus, no early exit; times as fast as the authors' model at its kinder malloc"
    table = Table("", title=title)
    for column in ("videos", "seconds", "x eager", "x channels-last", "error of logits"):
        table.add_column(column, justify="right")
    for row in rows:
        speed = (f"{row[key]:.2f}" for key in ("times_eager", "times_channels_last"))
        table.add_row(row["what"], str(row["videos"]), f"{row['seconds']:.3f}", *speed, f"{row['error']:.1e}")
    Console(width=max(Console().width, 110)).print(table)
    return {"against": "torch", "rows": rows}

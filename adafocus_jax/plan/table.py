"""A plan as a table and lines of text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from adafocus_jax.train.memory import GIB


def print_plan(figures: Mapping[str, Any]) -> None:
    """Prints the figures of ``plan_training`` on standard output."""
    title = (
        f"{figures['topology']}: {figures['chips']} chips, batch {figures['batch_size']}, {figures['dtype']}"
    )
    table = Table("per chip and step", "train", "evaluate", title=title, title_style="bold")
    steps = [figures["train"], figures["evaluate"]]
    for label, text in _ROWS.items():
        table.add_row(label, *(text(step) if step["fits"] else "" for step in steps))
    table.add_row("fits", *(_fits(step, figures["hbm_gib"]) for step in steps))
    console = Console()
    console.print(table)
    if found := figures.get("largest_batch"):
        console.print(f"largest batch that fits: {_largest(found)}", highlight=False)
    for name in ("train", "evaluate"):
        for gather in figures[name].get("gathers", ()):
            kind = "PIXELS gathered" if gather["of_pixels"] else "rows or frames copied"
            size = f"{gather['bytes'] / 2**20:.1f} MiB of {gather['operand']}"
            console.print(f"{name}: {kind}, {size}, at {gather['place']}", highlight=False, soft_wrap=True)


def _largest(found: Mapping[str, Any]) -> str:
    size, too_large = found["batch_size"], found["too_large"]
    if found["exact"]:
        return f"{size} ({too_large}, the next size up, does not)"
    known = f"{too_large} does not" if too_large else "every size tried does"
    return f"{size} or more ({known}): raise --max-compiles to narrow it down"


def _gib(key: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda step: f"{step['memory'][key] / GIB:.3f} GiB"


def _traffic(step: Mapping[str, Any]) -> str:
    kinds = (f"{c['count']} {kind}, {c['bytes'] / 2**20:.1f} MiB" for kind, c in step["collectives"].items())
    return "\n".join(kinds) or "none"


def _estimate(step: Mapping[str, Any]) -> str:
    guess = step["estimate"]
    lines = [
        f"{1000 * guess['step_sec']:.1f} ms per step, {guess['videos_per_sec']:.0f} videos/s",
        f"compute {1000 * guess['compute_sec']:.1f} ms, memory {1000 * guess['memory_sec']:.1f} ms,",
        f"collectives {1000 * guess['collectives_sec']:.1f} ms",
    ]
    if "data_cores" in guess:
        lines.append(f"{guess['data_cores']:.0f} CPU cores for decoding")
    if step["loops"]:
        lines.append(f"an underestimate: loops of {step['loops']} iterations count once")
    return "\n".join(lines)


def _fits(step: Mapping[str, Any], hbm_gib: float) -> str:
    if step["fits"]:
        return f"yes, {100 * step['memory']['total'] / GIB / hbm_gib:.0f}% of {hbm_gib:g} GiB"
    return f"NO: needs {step['needed_bytes'] / GIB:.2f} GiB of {step['available_bytes'] / GIB:.2f}"


_ROWS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "arguments": _gib("arguments"),
    "outputs": _gib("outputs"),
    "  aliased to arguments": _gib("aliased"),
    "temporaries": _gib("temporaries"),
    "program": _gib("code"),
    "peak memory": _gib("total"),
    "FLOPs": lambda step: f"{step['flops'] / 1e9:.1f} G",
    "bytes moved": lambda step: f"{step['bytes_accessed'] / 1e9:.1f} G",
    "collectives": _traffic,
    "pixel gathers": lambda step: str(sum(gather["of_pixels"] for gather in step["gathers"])),
    "estimate (not measured)": _estimate,
}
"""Row of the table to its text."""

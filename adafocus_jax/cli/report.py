"""``adafocus report``: one page about a run, from what its workdir holds."""

from __future__ import annotations

import argparse
from typing import Any

import jax

from adafocus_jax.cli.flags import at_least, defaults_of
from adafocus_jax.visualize.run_report import report_run

_DESCRIPTION = """\
Writes one self-contained HTML page about a run: its settings, training curves, evaluations and checkpoints, cost, exits
and controls (if adafocus evaluate has measured them), and what the best checkpoint looks at in a few held-out videos.
The run may be in progress, stopped or converted; the page says what is missing. Runs on the CPU, so that a run in
progress keeps its accelerator."""

_EPILOG = """\
examples:
  adafocus report runs/mine
  adafocus report runs/mine --out mine.html --videos 8"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of this command."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    add = parser.add_argument
    add("workdir", metavar="WORKDIR", help="workdir of adafocus train or adafocus convert")
    add("--out", metavar="FILE", help="(default: WORKDIR/report.html)")
    add("--data", metavar="DIR", help="records (default: those of the run)")
    add(
        "--videos",
        type=at_least(0),
        default=defaults_of(report_run)["videos"],
        metavar="N",
        help="held-out videos to show (default %(default)s)",
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Writes the page; returns where it is, and where the run stands."""
    # The run may still hold the accelerator, and a handful of videos needs none.
    jax.config.update("jax_platforms", "cpu")
    figures = report_run(args.workdir, args.out, data=args.data, videos=args.videos)
    print(f"report: {figures['report']}")
    return figures

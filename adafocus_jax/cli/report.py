"""``adafocus report``: one page about a run, from whatever its workdir holds."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

from adafocus_jax.config import make_model, train_options
from adafocus_jax.data.batches.pipeline import eval_batches
from adafocus_jax.errors import UserError
from adafocus_jax.evaluate.exits import choose_policy, stored_policies
from adafocus_jax.evaluate.predict import make_predict_function, predict_split
from adafocus_jax.flops import model_cost
from adafocus_jax.io import progress
from adafocus_jax.predict.loading import load_model, open_split, round_up_to_devices
from adafocus_jax.predict.videos import source_predictions
from adafocus_jax.types import VideoBatch, VideoPrediction
from adafocus_jax.visualize.report import write_report
from adafocus_jax.visualize.run import read_run
from adafocus_jax.visualize.run_report import run_report

_DESCRIPTION = """\
Writes one self-contained HTML page about a run: its settings, training curves, evaluations and checkpoints, cost, exits
and controls (where adafocus evaluate has left them), and what the best checkpoint looks at in a few held-out videos.
The run may be in progress, stopped or converted; what is missing is said. Runs on the CPU, beside a run that trains."""

_EPILOG = """\
examples:
  adafocus report runs/mine
  adafocus report runs/mine --out mine.html --videos 8"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of this command."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    add = parser.add_argument
    add("workdir", metavar="WORKDIR", help="of adafocus train or adafocus convert")
    add("--out", metavar="FILE", help="(default: WORKDIR/report.html)")
    add("--data", metavar="DIR", help="records (default: those it was trained on)")
    add("--videos", type=int, default=4, help="held-out videos to show (default %(default)s)")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Writes the page; returns where it is, and where the run stands."""
    # The run may still hold the accelerator, and a handful of videos needs none.
    jax.config.update("jax_platforms", "cpu")
    found = read_run(args.workdir)
    data = found.config["data"] | ({"dir": args.data} if args.data else {})
    cost = model_cost(make_model(found.config))
    shown, why_none = _held_out(args, data) if args.videos > 0 else ([], "")
    page = run_report(found, cost, num_steps=_num_steps(found.config, data), shown=shown, why_none=why_none)
    out = Path(args.out) if args.out else found.workdir / "report.html"
    write_report(out, page)
    Console().print(f"report: {out.resolve()}", highlight=False, soft_wrap=True)
    return {"report": str(out), "step": found.step, "best_step": found.best, "videos": len(shown)}


def _held_out(args: argparse.Namespace, data: Mapping[str, Any]) -> tuple[list[VideoPrediction], str]:
    """The first videos of the held-out split as the best checkpoint sees them; where there are none, why."""
    try:
        source = open_split(data, data["val_split"])
        trained = load_model(argparse.Namespace(checkpoint=args.workdir, which="best"))
        count = min(args.videos, len(source))
        with progress("predicting", count) as advance:
            batch = next(iter(eval_batches(source, trained.spec, batch_size=round_up_to_devices(count))))
            predict = make_predict_function(trained.model, trained.checkpoint.variables)
            found = predict_split(predict, [VideoBatch(**batch)], advance)
        solved = stored_policies(trained.folder)
        policy = choose_policy(solved) if solved else None
        shown = source_predictions(
            source, trained.spec, trained.classes, found, trained.exit_gflops, policy, count=count
        )
        return list(shown), ""
    except UserError as error:
        return [], f"None to show: {error}."


def _num_steps(config: Mapping[str, Any], data: Mapping[str, Any]) -> int | None:
    """Steps of the whole run; None where that takes records that are not there."""
    if config["train"]["steps"]:
        return int(config["train"]["steps"])
    try:
        return train_options(config, len(open_split(data, data["train_split"]))).num_steps
    except UserError:
        return None

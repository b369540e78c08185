"""``adafocus demo``: the full pipeline, by the same commands that a user calls."""

from __future__ import annotations

import argparse
import shlex
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import adafocus_jax
from adafocus_jax.cli.main import run_command
from adafocus_jax.config import make_model
from adafocus_jax.demo.outcome import read_outcome
from adafocus_jax.demo.report import demo_report, learned_table
from adafocus_jax.demo.verdict import judge
from adafocus_jax.demo.videos import write_videos
from adafocus_jax.errors import UserError
from adafocus_jax.flops import model_cost
from adafocus_jax.visualize.report import write_report
from adafocus_jax.visualize.run import read_run

CONFIG = Path(adafocus_jax.__file__).parents[1] / "configs" / "demo.py"
VIDEOS = 1000

_DESCRIPTION = """\
Runs the full pipeline once, on synthetic videos, and ends with a report: prepare, train, evaluate, predict.

In each video a small striped figure is there for a quarter of the time; its colour shows at a glance, its stripes
only in a patch of the full frame, and both together are the class. Since the truth is known, the report says how
often the policies look at the right place and time. Takes a few minutes on two CPU cores. Started again in the same
folder, it resumes where it stopped."""

_EPILOG = """\
example:
  adafocus demo --out adafocus-demo"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of this command."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    add = parser.add_argument
    add("--out", default="adafocus-demo", metavar="DIR", help="where everything goes (default %(default)s)")
    add("--seed", type=int, default=0, help="of the videos and the training (default %(default)s)")
    add("--steps", type=int, help="training steps (default: those of configs/demo.py)")
    add("--videos", type=int, default=VIDEOS, help="to make, 70%% of them to train on (default %(default)s)")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """The whole way; returns the figures of the report."""
    if not CONFIG.is_file():
        raise UserError(f"no {CONFIG}: the demo runs from a checkout of the repository (pip install -e .)")
    out, start = Path(args.out), time.monotonic()
    videos, records, workdir = (out / name for name in ("videos", "records", "run"))
    console = Console()
    console.rule("1/5 making videos and records")
    make_records(videos, records, count=args.videos, seed=args.seed)
    console.rule("2/5 training")
    settings = [f"--config.train.steps={args.steps}"] if args.steps else []
    settings = [f"--config.seed={args.seed}", *settings]
    _call("train", "--config", CONFIG, "--data", records, "--workdir", workdir, *settings)
    console.rule("3/5 evaluating")
    figures = _call("evaluate", "--checkpoint", workdir, "--controls", "--early-exit", "--batch-size", 50)
    outcome = read_outcome(videos, records, workdir, figures)
    console.rule("4/5 predicting one video")
    drawn = ("--draw", out / "pictures", "--overlay")
    _call("predict", "--checkpoint", workdir, videos / "test" / outcome.shown.name, *drawn)
    console.rule("5/5 writing the report")
    path, trained = out / "report" / "index.html", read_run(workdir)
    verdict = judge(figures, trained.config["model"]["num_glance"], outcome)
    comparable = args.steps is None and args.videos == VIDEOS
    cost = model_cost(make_model(trained.config))
    write_report(path, demo_report(trained, cost, outcome, verdict, comparable=comparable))
    learned = learned_table(verdict, outcome, comparable=comparable)
    table = Table(*learned.columns, title=learned.caption)
    for row in learned.rows:
        table.add_row(*row)
    console.print(table)
    console.print(verdict.sentence, highlight=False, style="bold red" if verdict.hints else "bold green")
    for hint in verdict.hints:
        console.print(f"Look at this: {hint}.", highlight=False)
    took = f"({time.monotonic() - start:.0f} s)"
    console.print(f"report: {path.resolve()}   {took}", highlight=False, soft_wrap=True, style="bold")
    return figures | {"policy": outcome.score.figures, "gain": verdict.gain, "report": str(path)}


def make_records(videos: Path, records: Path, *, count: int = VIDEOS, seed: int = 0) -> None:
    """Synthetic videos, 70% of them to train on, and records of them; what is there already stays."""
    num_train = count * 7 // 10
    write_videos(videos, num_train=num_train, num_test=count - num_train, seed=seed)
    sizes = ("--size", 96, "--fps", 0, "--quality", 95)
    _call("prepare", videos / "train", records, "--val-src", videos / "test", *sizes)


def _call(command: str, *words: object) -> Any:
    """Runs one command in this process, and shows it as a user would type it."""
    argv = [command, *map(str, words)]
    Console().print(
        f"$ adafocus {shlex.join(argv)}", highlight=False, markup=False, soft_wrap=True, style="cyan"
    )
    return run_command(argv)

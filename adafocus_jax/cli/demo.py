"""``adafocus demo``: the whole way, by the same commands that a user calls."""

from __future__ import annotations

import argparse
import json
import shlex
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import adafocus_jax
from adafocus_jax.cli.main import run_command
from adafocus_jax.config import make_model
from adafocus_jax.data.batches.single import Clip
from adafocus_jax.data.records.reader import open_records
from adafocus_jax.demo.report import demo_report, truth_extra
from adafocus_jax.demo.score import PolicyScore, score_policy, source_frames
from adafocus_jax.demo.videos import DemoTask, write_videos
from adafocus_jax.early_exit import choose_policy
from adafocus_jax.errors import UserError
from adafocus_jax.evaluate.exits import stored_policies
from adafocus_jax.evaluate.predict import Predictions
from adafocus_jax.flops import model_cost
from adafocus_jax.predict.videos import video_prediction
from adafocus_jax.types import VideoPrediction
from adafocus_jax.visualize.report import write_report
from adafocus_jax.visualize.run import EVALUATION_FOLDER, read_run

CONFIG = Path(adafocus_jax.__file__).parents[1] / "configs" / "demo.py"

_DESCRIPTION = """\
Runs everything once, on videos that it makes, and ends with a report: prepare, train, evaluate, predict.

In each video a small striped figure is there for a quarter of the time; its colour shows at a glance, its stripes
only in a patch of the full frame, and both together are the class. Since the truth is known, the report says how
often the policies look at the right place and time. Takes a few minutes on two CPU cores. Started again in the same
folder, it goes on where it stopped."""

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
    add(
        "--videos",
        type=int,
        default=1000,
        help="videos to make, 70%% of them to train on (default %(default)s)",
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """The whole way; returns the figures of the report."""
    if not CONFIG.is_file():
        raise UserError(f"no {CONFIG}: the demo runs from a checkout of the repository (pip install -e .)")
    out, start = Path(args.out), time.monotonic()
    videos, records, workdir = (out / name for name in ("videos", "records", "run"))
    console = Console()
    console.rule("1/6 making videos")
    write_videos(
        videos, num_train=args.videos * 7 // 10, num_test=args.videos - args.videos * 7 // 10, seed=args.seed
    )
    console.rule("2/6 preparing records")
    _call(
        "prepare",
        videos / "train",
        records,
        "--val-src",
        videos / "test",
        "--size",
        96,
        "--fps",
        0,
        "--quality",
        95,
    )
    console.rule("3/6 training")
    settings = [f"--config.train.steps={args.steps}"] if args.steps else []
    _call(
        "train",
        "--config",
        CONFIG,
        "--data",
        records,
        "--workdir",
        workdir,
        f"--config.seed={args.seed}",
        *settings,
    )
    console.rule("4/6 evaluating")
    figures = _call("evaluate", "--checkpoint", workdir, "--controls", "--early-exit", "--batch-size", 50)
    with np.load(workdir / EVALUATION_FOLDER / "predictions.npz") as archive:
        found = Predictions(**archive)
    truth = json.loads((videos / "truth.json").read_text())
    shown, score = _compare(workdir, records, found, figures, truth)
    console.rule("5/6 predicting one video")
    _call(
        "predict",
        "--checkpoint",
        workdir,
        videos / "test" / shown.name,
        "--draw",
        out / "pictures",
        "--overlay",
    )
    console.rule("6/6 writing the report")
    report, trained = out / "report" / "index.html", read_run(workdir)
    write_report(report, demo_report(trained, model_cost(make_model(trained.config)), score, shown))
    _print_verdict(console, figures, score, len(shown.classes))
    console.print(
        f"report: {report.resolve()}   ({time.monotonic() - start:.0f} s)",
        highlight=False,
        soft_wrap=True,
        style="bold",
    )
    return figures | {"policy": _score_figures(score), "report": str(report)}


def _call(command: str, *words: object) -> Any:
    """Runs one command in this process, and shows it as a user would type it."""
    argv = [command, *map(str, words)]
    Console().print(
        f"$ adafocus {shlex.join(argv)}", highlight=False, markup=False, soft_wrap=True, style="cyan"
    )
    return run_command(argv)


def _compare(
    workdir: Path, records: Path, found: Predictions, figures: dict[str, Any], truth: dict[str, Any]
) -> tuple[VideoPrediction, PolicyScore]:
    """Scores the policy against the truth; picks the first video that was got right, to show."""
    source = open_records(records, "val")
    names = [source[int(index)].name for index in found.index]
    task, num_candidates = DemoTask(), figures["num_candidates"]
    score = score_policy(
        found.boxes,
        found.frame_indices,
        [truth[name]["boxes"] for name in names],
        num_candidates=num_candidates,
        frame_size=(task.size_px, task.size_px),
    )
    right = found.logits.argmax(axis=1) == found.labels[:, 0]
    row = int(np.argmax(right))
    record = source[int(found.index[row])]
    at = source_frames(np.arange(num_candidates), num_candidates, len(record.frames))
    shown = video_prediction(
        names[row],
        source.classes,
        Clip(np.stack([record.frame(int(i)) for i in at]), record.times_sec[at], at, None),
        found,
        row,
        np.asarray(figures["exit_gflops"]),
        choose_policy(stored_policies(workdir / "checkpoints")),
    )
    shown.extra.update(truth_extra(truth[names[row]], source.classes, num_candidates))
    return shown, score


def _score_figures(score: PolicyScore) -> dict[str, float]:
    return {
        "figure_covered": score.learned.figure_covered,
        "figure_covered_random": score.random.figure_covered,
        "centre_in_patch": score.learned.centre_in_patch,
        "centre_in_patch_random": score.random.centre_in_patch,
        "frames_with_figure": score.frames_with_figure,
        "frames_with_figure_uniform": score.frames_with_figure_uniform,
    }


def _print_verdict(console: Console, figures: dict[str, Any], score: PolicyScore, num_classes: int) -> None:
    table = Table("", "learned", "by chance", title="What the demo learned")
    table.add_row("top-1 on held-out videos", f"{figures['top1']:.0f}%", f"{100 / num_classes:.0f}%")
    table.add_row(
        "figure covered by the patch",
        f"{score.learned.figure_covered:.0%}",
        f"{score.random.figure_covered:.0%} (random patches of the same size)",
    )
    table.add_row(
        "figure's centre in the patch",
        f"{score.learned.centre_in_patch:.0%}",
        f"{score.random.centre_in_patch:.0%}",
    )
    table.add_row(
        "chosen frames with the figure",
        f"{score.frames_with_figure:.0%}",
        f"{score.frames_with_figure_uniform:.0%} (uniform frames)",
    )
    console.print(table)

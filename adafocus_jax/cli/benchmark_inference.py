"""``adafocus benchmark inference``: videos per second and latency, with and without early exit."""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

from rich.console import Console
from rich.table import Table

from adafocus_jax.benchmark.inference import BUDGETS, IN_FLIGHT, benchmark_inference
from adafocus_jax.cli.against_torch import print_against_torch
from adafocus_jax.cli.flags import add_backend_arguments, at_least, defaults_of

_DESCRIPTION = """\
Runs the inference engine without early exit and at several budgets, each with different numbers of videos in flight:
videos per second, latency, and the speed-up beside what the saved multiply-adds and the times of the stages promise.
With --config, weights are random and the exits are imposed, so that no checkpoint is needed; with --checkpoint, videos
leave by the stored thresholds. Without --videos, pixels are noise in memory, and the figures those of the network."""

_EPILOG = """\
examples:
  adafocus benchmark inference --config configs/demo.py --in-flight 1 8 --seconds 2
  adafocus benchmark inference --checkpoint runs/mine --videos clips/ --json figures.json
  adafocus benchmark inference --against torch"""

_COLUMNS = (
    *("in flight", "budget", "videos/s", "mean ms", "p50", "p95", "GFLOPS"),
    *("speed-up", "of latency", "of MACs", "ideal", "efficiency", "padding", "host ms", "pixels"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of this benchmark; ``--config.SETTING=VALUE`` arrive as ``settings``."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    defaults = defaults_of(benchmark_inference)
    add = parser.add_argument
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--config", metavar="FILE[:VARIANT]", help="config file, as for adafocus train")
    which.add_argument(
        "--checkpoint", metavar="DIR", help="workdir of a training run, or a folder of checkpoints"
    )
    text = "instead, time the authors' PyTorch model and ours in turn, at the published sizes (in a checkout)"
    which.add_argument("--against", choices=("torch",), help=text)
    add(
        "--videos",
        nargs="+",
        metavar="PATH",
        help="video files, folders of frames, or folders of videos, in turn",
    )
    counts = partial(add, type=at_least(1), nargs="+", metavar="N")
    counts("--in-flight", default=IN_FLIGHT, help="videos in flight (default: 1 8 64 256)")
    text = "mean cost of a video over the full cost (default: 0.75 0.5 0.33)"
    add("--budgets", type=float, nargs="+", default=BUDGETS, metavar="SHARE", help=text)
    text = "how long new videos come in each measurement (default %(default)s)"
    add("--seconds", type=float, default=defaults["seconds"], metavar="SEC", help=text)
    for stage in ("glance", "choose", "look"):
        counts(f"--{stage}-buckets", help=f"bucket sizes of the stage {stage} (default: by device and model)")
    add_backend_arguments(parser)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measures, prints, and returns the figures."""
    if args.against:
        return print_against_torch()
    given = {stage: getattr(args, f"{stage}_buckets") for stage in ("glance", "choose", "look")}
    console = Console(stderr=True)
    with console.status("compiling") as status:
        figures = benchmark_inference(
            args.config,
            args.settings,
            checkpoint=args.checkpoint,
            videos=args.videos,
            buckets={stage: tuple(sizes) for stage, sizes in given.items() if sizes},
            in_flight=args.in_flight,
            budgets=args.budgets,
            seconds=args.seconds,
            backend=args.backend,
            precision=args.precision,
            progress=status.update,
        )
    host, model = figures["host"], figures["model"]
    title = (
        f"{model['name']}, {model['dtype']}, on {host['devices']} × {host['device']} ({host['cores']} cores)"
    )
    table = Table(title=title)
    for column in _COLUMNS:
        table.add_column(column, justify="right")
    for one in figures["runs"]:
        table.add_row(*_row(one))
    Console(width=max(Console().width, 130)).print(table)
    return figures


def _row(run: dict[str, Any]) -> list[str]:
    rows = sum(stage["rows"] for stage in run["stages"].values())
    padding = sum(
        s["rows"] * s["padding_frac"] / (1 - s["padding_frac"] + 1e-9) for s in run["stages"].values()
    )
    return [
        str(run["in_flight"]),
        run["budget"],
        f"{run['videos_per_sec']:.4g}",
        *(f"{run['latency_ms'][key]:.4g}" for key in ("mean", "p50", "p95")),
        f"{run['mean_gflops']:.4g}",
        *(f"{run[f'speedup{name}']:.2f}" for name in ("", "_latency", "_macs", "_ideal")),
        f"{run['scheduler_efficiency']:.0%}",
        f"{padding / max(1, rows + padding):.0%}",
        f"{run['host_ms_per_bucket']:.2f}",
        f"{run['pixel_wait_frac']:.0%}",
    ]

"""``adafocus benchmark WHAT``: finds the benchmark's module, as ``main`` finds a command's."""

from __future__ import annotations

import argparse
import importlib
from typing import Any

from adafocus_jax.cli.output import add_output_arguments

BENCHMARKS = {
    "data": "data loading: clips per second and core, against Pillow and the bare video decoder",
    "inference": "inference: videos per second and latency, without early exit and at several budgets",
    "train": "training: time to the first step with an empty and a warm compilation cache, then throughput",
}
"""Benchmark to one-line help. Each is a module ``benchmark_WHAT`` with ``add_arguments(parser)`` and ``run(args)``."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the benchmarks, each with its flags."""
    benchmarks = parser.add_subparsers(dest="benchmark", metavar="WHAT", required=True)
    for name, text in BENCHMARKS.items():
        module = importlib.import_module(f"adafocus_jax.cli.benchmark_{name}")
        sub = benchmarks.add_parser(
            name, help=text, description=text, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        sub.set_defaults(measure=module.run)
        module.add_arguments(sub)
        add_output_arguments(sub, default=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> Any:
    """Runs the benchmark; returns its figures."""
    return args.measure(args)

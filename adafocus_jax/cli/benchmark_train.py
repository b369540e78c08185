"""``adafocus benchmark train``: how soon training starts on this machine, and how fast it then is."""

from __future__ import annotations

import argparse
from typing import Any

from rich.console import Console
from rich.table import Table

from adafocus_jax.benchmark.training import measure_training
from adafocus_jax.cli.flags import defaults_of
from adafocus_jax.config.base import DEFAULT_CLASSES

_DESCRIPTION = f"""\
Starts training of a config twice, each time in a new process, and measures the seconds to the end of the first step;
the second start finds the programs that the first one compiled in the compilation cache. Then times steps on a
synthetic batch that lies on the devices already: an upper bound of training speed, which data loading has to keep up
with (adafocus benchmark data). Needs no data.

The number of classes is the config's, or {DEFAULT_CLASSES} where that leaves it to the data. The compilation cache is
a temporary folder, empty at first."""

_EPILOG = """\
example:
  adafocus benchmark train --config configs/demo.py --steps 20 --config.train.parallel=shard_map"""

_ROWS = {
    "first_start_sec": ("first start, to the end of the first step", "{:.1f} s"),
    "second_start_sec": ("second start", "{:.1f} s"),
    "second_to_first": ("  of the first", "{:.0%}"),
    "step_ms": ("step", "{:.1f} ms"),
    "videos_per_sec": ("throughput", "{:.1f} videos/s"),
    "step_memory_gib": ("memory of a step, as compiled", "{:.3f} GiB"),
    "peak_memory_gib": ("peak memory, as measured", "{:.3f} GiB"),
    "tflops": ("operations per device", "{:.4g} TFLOP/s"),
    "flop_utilization": ("  of its peak", "{:.1%}"),
}
"""Figure to its label and format; figures that are not known are left out."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of this benchmark; ``--config.SETTING=VALUE`` arrive as ``settings``."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.add_argument(
        "--config", required=True, metavar="FILE[:VARIANT]", help="config file, as for adafocus train"
    )
    parser.add_argument(
        "--steps",
        type=int,
        default=defaults_of(measure_training)["steps"],
        metavar="N",
        help="training steps to time (default %(default)s)",
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measures, prints, and returns the figures."""
    figures = measure_training(args.config, args.settings, steps=args.steps)
    title = (
        f"{figures['name']}, {figures['num_classes']} classes, {figures['dtype']}, "
        f"batch {figures['batch_size']}, {figures['parallel']} on {figures['devices']} × {figures['device']}"
    )
    table = Table("training", "", title=title)
    for key, (label, form) in _ROWS.items():
        if key in figures:
            table.add_row(label, form.format(figures[key]))
    Console().print(table)
    return figures

"""``adafocus cost``: what a model costs, counted from its own traced modules."""

from __future__ import annotations

import argparse
from typing import Any

from rich.console import Console
from rich.table import Table

from adafocus_jax.cli.model_arguments import add_set_argument, model_arguments
from adafocus_jax.config import base_config, check_config, make_model, read_config
from adafocus_jax.config.base import DEFAULT_CLASSES, set_model_arguments
from adafocus_jax.flops import ModelCost, model_cost
from adafocus_jax.models import MODELS

_DESCRIPTION = f"""\
Counts the multiply-adds of one video ("GFLOPs" in this literature) and the parameters of a model, part by part, and
the multiply-adds up to every exit. Needs neither data nor a checkpoint.

Counted are convolutions and matrix products, padded taps included, of the traced program of the real modules: also of
encoders and models that a config file of yours registers. Heads grow with the number of classes: it is the config's,
or {DEFAULT_CLASSES} where that leaves it to the data."""

_EPILOG = """\
examples:
  adafocus cost --model uni_adafocus --set patch_size=96
  adafocus cost --config configs/something_v1.py:p128,f16 --config.model.glance_size=160 --json cost.json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of this command; ``--config.SETTING=VALUE`` arrive as ``settings``."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--model", metavar="NAME", help=f"one of {', '.join(MODELS)}")
    which.add_argument(
        "--config", metavar="FILE[:VARIANT]", help="config file; --config.SETTING=VALUE changes one"
    )
    parser.add_argument(
        "--num-classes", type=int, metavar="K", help=f"(default: the config's, else {DEFAULT_CLASSES})"
    )
    add_set_argument(parser)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Counts, prints a table, and returns the figures."""
    config = read_config(args.config) if args.config else base_config(args.model)
    set_model_arguments(config, model_arguments(args))
    settings = check_config(config, args.settings)
    model = settings["model"]
    model["num_classes"] = args.num_classes or model["num_classes"] or DEFAULT_CLASSES
    cost = model_cost(make_model(settings))
    _print(f"{model['name']}, {model['num_classes']} classes", cost)
    return {
        "model": model,
        "macs": cost.exits[-1],
        "params": cost.params,
        "parts": {
            part: {"macs": cost.parts.get(part, 0), "params": n} for part, n in cost.part_params.items()
        },
        "exit_macs": list(cost.exits),
    }


def _print(title: str, cost: ModelCost) -> None:
    table = Table("part", title=title, show_footer=True)
    table.columns[0].footer = "all"
    table.add_column("multiply-adds (G)", f"{cost.exits[-1] / 1e9:.4f}", justify="right")
    table.add_column("parameters (M)", f"{cost.params / 1e6:.3f}", justify="right")
    for part, params in cost.part_params.items():
        table.add_row(part, f"{cost.parts.get(part, 0) / 1e9:.4f}", f"{params / 1e6:.3f}")
    Console().print(table)
    exits = " ".join(f"{gflops:.3g}" for gflops in cost.exit_gflops)
    Console().print(f"up to each exit (G): {exits}", highlight=False)

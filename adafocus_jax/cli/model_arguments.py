"""``--set NAME=VALUE``: arguments of a model on the command line."""

from __future__ import annotations

import argparse
import ast
from typing import Any

from adafocus_jax.errors import UserError


def add_set_argument(parser: argparse.ArgumentParser) -> None:
    """Adds ``--set``, which may come several times."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="argument of the model, e.g. patch_size=96",
    )


def model_arguments(args: argparse.Namespace) -> dict[str, Any]:
    """What ``--set`` says, as Python values where it is one.

    >>> model_arguments(argparse.Namespace(set=["patch_size=96", "spatial=centre"]))
    {'patch_size': 96, 'spatial': 'centre'}

    Raises:
      UserError: a word without "=".
    """
    arguments = {}
    for word in args.set:
        name, equals, text = word.partition("=")
        if not equals:
            raise UserError(f"--set {word}: write NAME=VALUE, e.g. --set patch_size=96")
        try:
            arguments[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            arguments[name] = text
    return arguments

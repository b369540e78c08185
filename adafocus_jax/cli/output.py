"""The flags that all commands share, and their figures as JSON."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from adafocus_jax.errors import UserError
from adafocus_jax.io import json_text, write_json


def add_output_arguments(parser: argparse.ArgumentParser, **default: Any) -> None:
    """Adds the shared flags; commands below a command take them with ``default=SUPPRESS``."""
    text = "write the figures as JSON (- for standard output)"
    parser.add_argument("--json", metavar="FILE", help=text, **default)
    text = "neither read nor write the compilation cache"
    parser.add_argument("--no-compile-cache", action="store_true", help=text, **default)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error", **default)


def write_figures(target: str, figures: Any) -> None:
    """Writes a command's figures to a file, or to standard output if ``target`` is "-"."""
    if target == "-":
        sys.stdout.write(json_text(figures))
        return
    try:
        write_json(target, figures)
    except OSError as error:
        raise UserError(f"cannot write json={target}: {error.strerror}") from error

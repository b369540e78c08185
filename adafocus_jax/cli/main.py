"""``adafocus COMMAND``: finds the command's module, and turns its result or failure into output and a status."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import logging
import os
import sys
from collections.abc import Sequence
from typing import Any

from adafocus_jax import __version__
from adafocus_jax.cli.exit_status import status_of
from adafocus_jax.cli.flags import flags_of
from adafocus_jax.errors import UserError
from adafocus_jax.io import json_text, write_json

COMMANDS = {
    "demo": "run the full pipeline on synthetic videos in a few CPU minutes: prepare, train, evaluate, predict, report",
    "prepare": "convert a data set, or a folder or list of videos, into sharded records",
    "inspect": "verify records, summarise their contents and draw samples",
    "train": "train a model from a config file",
    "evaluate": "accuracy, mAP and early-exit curve of a checkpoint",
    "predict": "classify videos and visualise what the model looked at",
    "report": "write one HTML page about a training run: curves, evaluations, cost, what the model looks at",
    "convert": "convert a PyTorch checkpoint into one of this package, or back",
    "cost": "multiply-adds and parameters of a model, by module and by exit",
    "plan": "memory, largest batch, collectives and estimated speed of training on a TPU slice, without one",
    "benchmark": "throughput of data loading and of training on this machine",
}
"""Command to one-line help. Each has a module of its name here, with ``add_arguments(parser)`` and
``run(args) -> dict | None``; what ``run`` returns is what ``--json`` writes, and its ``status``, if any, is how the
command ends. Modules load when they are called, so that ``--help`` and data workers stay fast."""


def build_parser(command: str | None = None) -> argparse.ArgumentParser:
    """The argument parser; only ``command``'s own flags are filled in."""
    parser = argparse.ArgumentParser(
        prog="adafocus",
        description="Uni-AdaFocus in JAX: train, evaluate and run models that choose where and when to look.",
        epilog="example: adafocus demo        (each command explains itself: adafocus COMMAND --help)",
    )
    parser.add_argument("--version", action="version", version=f"adafocus_jax {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, text in COMMANDS.items():
        sub = commands.add_parser(
            name, help=text, description=text, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        if name == command:
            module = importlib.import_module(f"adafocus_jax.cli.{name}")
            module.add_arguments(sub)
            add_output_arguments(sub)
            sub.set_defaults(run=module.run, flags=flags_of(sub))
    return parser


def add_output_arguments(parser: argparse.ArgumentParser, **default: Any) -> None:
    """Adds the flags that all commands have; a command of commands adds them to each, ``default=SUPPRESS``."""
    text = "write the figures as JSON (- for standard output)"
    parser.add_argument("--json", metavar="FILE", help=text, **default)
    text = "compile anew, and leave nothing on disk"
    parser.add_argument("--no-compile-cache", action="store_true", help=text, **default)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error", **default)


def run_command(argv: Sequence[str]) -> Any:
    """Runs one command and returns its figures; failures are exceptions."""
    args = _parse(argv)
    return args.run(args)


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = build_parser(argv[0] if argv and argv[0] in COMMANDS else None)
    args, rest = parser.parse_known_args(argv)
    args.settings = [word for word in rest if word.startswith("--config.")] if "config" in args else []
    if unknown := [word for word in rest if word not in args.settings]:
        parser.error(f"unrecognized arguments: {' '.join(unknown)} (see adafocus {argv[0]} --help)")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command. Returns 0, or 2 for a user's mistake (one line on standard error), or the command's status."""
    args = _parse(list(sys.argv[1:] if argv is None else argv))
    # force: absl, which configs bring along, has put its own handler there. Libraries speak up from warnings on.
    handler = logging.StreamHandler(sys.stderr)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[handler], force=True)
    logging.getLogger("adafocus_jax").setLevel(logging.INFO)
    _cache_compilation(not args.no_compile_cache)

    def work() -> int:
        # With --json - standard output carries the JSON alone; whatever a command prints goes beside it.
        with contextlib.redirect_stdout(sys.stderr) if args.json == "-" else contextlib.nullcontext():
            figures = args.run(args)
        if args.json and figures is not None:
            _write_figures(args.json, figures)
        return figures.get("status", 0) if isinstance(figures, dict) else 0

    try:
        return status_of(f"adafocus {args.command}", work, debug=args.debug, flags=args.flags)
    finally:
        logging.getLogger().removeHandler(handler)


def _cache_compilation(wanted: bool) -> None:
    """Keeps compiled programs in the user's cache folder, or where JAX_COMPILATION_CACHE_DIR says."""
    if "jax" not in sys.modules:  # the command compiles nothing
        return
    jax = sys.modules["jax"]
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = jax.config.jax_compilation_cache_dir or os.path.join(cache, "adafocus_jax")
    jax.config.update("jax_compilation_cache_dir", folder if wanted else None)


def _write_figures(target: str, figures: Any) -> None:
    if target == "-":
        sys.stdout.write(json_text(figures))
        return
    try:
        write_json(target, figures)
    except OSError as error:
        raise UserError(f"cannot write json={target}: {error.strerror}") from error


if __name__ == "__main__":
    sys.exit(main())

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
from adafocus_jax.allocator import keep_freed_memory
from adafocus_jax.cli.exit_status import status_of
from adafocus_jax.cli.flags import flags_of
from adafocus_jax.cli.output import add_output_arguments, write_figures
from adafocus_jax.plugins import import_inherited_plugins

COMMANDS = {
    "demo": "run the full pipeline on synthetic videos in a few CPU minutes: prepare, train, evaluate, predict, report",
    "prepare": "convert a data set, or a folder or list of videos, into sharded records",
    "inspect": "verify records, summarise their contents and draw samples",
    "train": "train a model from a config file",
    "evaluate": "accuracy, mAP and early-exit curve of a checkpoint",
    "predict": "classify videos and visualise what the model looked at",
    "sweep": "train one config with many settings, scripted or searched, and compare the runs",
    "report": "write one HTML page about a training run: curves, evaluations, cost, what the model looks at",
    "convert": "convert a PyTorch checkpoint into one of this package, or back",
    "export": "write a checkpoint as ONNX models, or as programs of JAX that run without Flax",
    "cost": "multiply-adds and parameters of a model, by module and by exit",
    "plan": "memory, largest batch, collectives and estimated speed of training on a TPU slice, without one",
    "launch": "start a command on several processes, TPU slices, GKE or Slurm, and again until it is done",
    "benchmark": "throughput of data loading and of training on this machine",
}
"""Command to one-line help. Each has a module of its name here, with ``add_arguments(parser)`` and
``run(args) -> dict | None``; what ``run`` returns is what ``--json`` writes, and its ``status``, if any, is how the
command ends. Modules load when they are called, so that ``--help`` and data workers stay fast."""

_AS_WRITTEN = argparse.RawDescriptionHelpFormatter
WRAPPERS = ("sweep", "launch")  # They take another command behind `--`, as ``args.after``.


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
        sub = commands.add_parser(name, help=text, description=text, formatter_class=_AS_WRITTEN)
        if name == command:
            module = importlib.import_module(f"adafocus_jax.cli.{name}")
            module.add_arguments(sub)
            add_output_arguments(sub)
            sub.set_defaults(run=module.run, flags=flags_of(sub))
    return parser


def run_command(argv: Sequence[str]) -> Any:
    """Runs one command and returns its figures; failures are exceptions."""
    args = parse(argv)
    return args.run(args)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments of one command, with ``run``; overrides of its config are in ``settings``."""
    command = argv[0] if argv and argv[0] in COMMANDS else None
    split = argv.index("--") if command in WRAPPERS and "--" in argv else len(argv)
    parser = build_parser(command)
    args, rest = parser.parse_known_args(argv[:split])
    args.after = list(argv[split + 1 :])
    args.settings = [word for word in rest if word.startswith("--config.")] if "config" in args else []
    if unknown := [word for word in rest if word not in args.settings]:
        parser.error(f"unrecognized arguments: {' '.join(unknown)} (see adafocus {argv[0]} --help)")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command. Returns 0, 2 for a user error (reported in one line on standard error), or its own status."""
    keep_freed_memory()
    if sys.stdout is sys.__stdout__:  # Names of files are printed with the bytes that they have.
        sys.stdout.reconfigure(errors="surrogateescape")  # type: ignore[union-attr]
    args = parse(list(sys.argv[1:] if argv is None else argv))
    # force: absl, which configs import, has installed a handler of its own.
    handler = logging.StreamHandler(sys.stderr)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[handler], force=True)
    logging.getLogger("adafocus_jax").setLevel(logging.INFO)
    _cache_compilation(not args.no_compile_cache)

    def work() -> int:
        import_inherited_plugins()
        # With --json - standard output carries the JSON alone; whatever a command prints goes beside it.
        with contextlib.redirect_stdout(sys.stderr) if args.json == "-" else contextlib.nullcontext():
            figures = args.run(args)
        if args.json and figures is not None:
            write_figures(args.json, figures)
        return figures.get("status", 0) if isinstance(figures, dict) else 0

    try:
        return status_of(f"adafocus {args.command}", work, debug=args.debug, flags=args.flags)
    finally:
        logging.getLogger().removeHandler(handler)


def _cache_compilation(wanted: bool) -> None:
    """Keeps compiled programs in the user's cache folder, or where JAX_COMPILATION_CACHE_DIR says."""
    if (jax := sys.modules.get("jax")) is None:  # the command compiles nothing
        return
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = jax.config.jax_compilation_cache_dir or os.path.join(cache, "adafocus_jax")
    jax.config.update("jax_compilation_cache_dir", folder if wanted else None)


if __name__ == "__main__":
    sys.exit(main())

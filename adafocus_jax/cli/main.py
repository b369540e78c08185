"""``adafocus COMMAND``: finds the command's module, and turns its result or failure into output and a status."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import logging
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from adafocus_jax import __version__
from adafocus_jax.allocator import keep_freed_memory
from adafocus_jax.errors import ProcessLostError, UserError

_TRY_AGAIN = 75  # EX_TEMPFAIL of sysexits.h

COMMANDS = {
    "demo": "the whole way on made videos, in a few CPU minutes: prepare, train, evaluate, predict, report",
    "prepare": "turn a data set, or a folder or list of videos, into sharded records",
    "inspect": "verify records, say what is in them, and draw some",
    "train": "train a model from a config file",
    "evaluate": "accuracy, mAP and the early-exit curve of a checkpoint",
    "predict": "classify videos and draw what the model looked at",
    "report": "one HTML page about a training run: curves, evaluations, cost, what it looks at",
    "convert": "turn a PyTorch checkpoint into one of ours, or ours into one of PyTorch",
    "cost": "multiply-adds and parameters of a model, part by part and exit by exit",
    "plan": "what training needs of a slice of TPUs: memory, largest batch, traffic, an estimate of its speed",
    "benchmark": "how fast reading is on this machine, against the usual ways, and how soon and how fast it trains",
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
            sub.set_defaults(run=module.run)
            module.add_arguments(sub)
            add_output_arguments(sub)
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
    keep_freed_memory()
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
            _write_json(args.json, figures)
        return figures.get("status", 0) if isinstance(figures, dict) else 0

    try:
        return status_of(f"adafocus {args.command}", work, debug=args.debug)
    finally:
        logging.getLogger().removeHandler(handler)


def status_of(name: str, work: Callable[[], int], *, debug: bool = False) -> int:
    """The status with which ``work`` ends; what stopped it is told in a line on standard error.

    One of several processes that fails ends here and now. Else JAX would have it wait for the others, who wait for it
    in the next step, until all are aborted.
    """
    try:
        return work()
    except UserError as error:
        status, said = 2, str(error)
    except ProcessLostError as error:
        status, said = _TRY_AGAIN, str(error)
    except KeyboardInterrupt:
        status, said = 130, "interrupted"
    except BrokenPipeError:  # the reader of our output left, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception:
        if not _is_one_of_several():
            raise
        status, said = 1, "failed"
        debug = True
    if debug:
        traceback.print_exc()
    print(f"{name}: {said}", file=sys.stderr)
    if _is_one_of_several():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status


def _is_one_of_several() -> bool:
    jax = sys.modules.get("jax")
    return jax is not None and jax.distributed.is_initialized() and jax.process_count() > 1


def _cache_compilation(wanted: bool) -> None:
    """Keeps compiled programs in the user's cache folder, or where JAX_COMPILATION_CACHE_DIR says."""
    if "jax" not in sys.modules:  # the command compiles nothing
        return
    jax = sys.modules["jax"]
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = jax.config.jax_compilation_cache_dir or os.path.join(cache, "adafocus_jax")
    jax.config.update("jax_compilation_cache_dir", folder if wanted else None)


def _write_json(target: str, figures: Any) -> None:
    text = json.dumps(figures, indent=2, default=float) + "\n"
    if target == "-":
        sys.stdout.write(text)
        return
    try:
        with open(target, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise UserError(f"cannot write --json {target}: {error.strerror}") from error


if __name__ == "__main__":
    sys.exit(main())

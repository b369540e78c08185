"""``adafocus prepare DATASET|SRC OUT``: a data set, a folder or a list of videos becomes sharded records."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
from functools import partial
from typing import Any

from adafocus_jax.cli.flags import defaults_of
from adafocus_jax.cli.prepare_flags import DESCRIPTION, EPILOG, add_flags
from adafocus_jax.data.datasets.entries import ReadOptions
from adafocus_jax.data.prepare.beam import make_on_beam
from adafocus_jax.data.prepare.finish import PrepareSummary, finalize
from adafocus_jax.data.prepare.prepare import prepare
from adafocus_jax.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of this command."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    places = [
        parser.add_argument(
            "source",
            metavar="DATASET|SRC",
            help="name of a data set; or folder of class folders, or list file",
        ),
        parser.add_argument("out", metavar="OUT", help="folder for the records; made if it does not exist"),
    ]
    parser.add_argument(
        "--finalize",
        metavar="OUT",
        action=_Instead,
        places=places,
        help="instead of all that: verify that every part of OUT is complete, and write the metadata",
    )
    add_flags(parser)


class _Instead(argparse.Action):
    """A flag that takes the place of the positional arguments."""

    def __init__(self, places: list[argparse.Action], **options: Any) -> None:
        super().__init__(**options)
        self._places = places

    def __call__(
        self, parser: Any, namespace: argparse.Namespace, value: Any, option_string: Any = None
    ) -> None:
        setattr(namespace, self.dest, value)
        for place in self._places:
            place.required = False


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Prepares the records, or finalizes them, prints a summary, and returns it."""
    summary = _finalize(args) if args.finalize else _prepare(args)
    _print(summary, args.part)
    return dataclasses.asdict(summary)


def _finalize(args: argparse.Namespace) -> PrepareSummary:
    if args.source:
        raise UserError(f"finalize={args.finalize} goes without DATASET, SRC and OUT: drop {args.source}")
    return finalize(args.finalize, max_skipped=args.max_skipped, threads=args.workers)


def _prepare(args: argparse.Namespace) -> PrepareSummary:
    same = {name: getattr(args, name) for name in defaults_of(prepare) if hasattr(args, name)}
    return prepare(
        args.source,
        args.out,
        **same
        | {
            "fps": "auto" if args.fps is None else args.fps or None,
            "read": ReadOptions(args.frame_rate, args.axis, tuple(args.window) if args.window else None),
            "maker": None if args.beam is None else partial(make_on_beam, options=shlex.split(args.beam)),
        },
    )


def _print(summary: PrepareSummary, part: tuple[int, int]) -> None:
    out = summary.directory
    videos = " + ".join(f"{count} {split}" for split, count in summary.num_videos.items())
    print(
        f"{out}: {videos} videos of {summary.num_classes} classes, {sum(summary.num_frames.values())} frames, "
        f"{summary.num_bytes / 1e6:.1f} MB, in {summary.seconds:.0f} s"
    )
    if not summary.complete:
        print(
            f"this is part {part[0]} of 0...{part[1] - 1}: when all are done, run adafocus prepare --finalize {out}"
        )
    if summary.num_skipped:
        where = f": see {out}/skipped.csv" if summary.complete else ""
        print(f"{summary.num_skipped} videos skipped because they do not decode{where}")
    if summary.num_missing:
        print(f"{summary.num_missing} annotated videos are missing: see {out}/missing.csv")

"""``adafocus prepare DATASET|SRC OUT``: a data set, a folder or a list of videos becomes sharded records."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
from collections.abc import Callable
from functools import partial
from typing import Any

from adafocus_jax.cli.flags import defaults_of
from adafocus_jax.cli.prepare_flags import add_flags
from adafocus_jax.cli.prepare_help import DESCRIPTION, EPILOG
from adafocus_jax.data.datasets.entries import ReadOptions
from adafocus_jax.data.prepare.beam import make_on_beam
from adafocus_jax.data.prepare.check import check
from adafocus_jax.data.prepare.finish import PrepareSummary, finalize
from adafocus_jax.data.prepare.prepare import prepare
from adafocus_jax.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of this command."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    add_flags(parser)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Prepares the records, finalizes them, or checks the videos; prints a summary, and returns it."""
    if args.check:
        return _check(args)
    summary = _finalize(args) if args.finalize else _prepare(args)
    _print(summary, args.part)
    return dataclasses.asdict(summary)


def _check(args: argparse.Namespace) -> dict[str, Any]:
    found = check(args.source, **_same(args, check))
    for split, video, reason in found.skipped:
        print(f"would be skipped: {video} ({split}): {reason}")
    more = f", more than --max-skipped {args.max_skipped:g}" if found.skipped_frac > args.max_skipped else ""
    print(
        f"{len(found.skipped)} of {sum(found.num_videos.values())} videos ({found.skipped_frac:.1%}) would be skipped"
        f"{more}; {found.num_missing} annotated videos are missing; checked in {found.seconds:.0f} s"
    )
    return dataclasses.asdict(found)


def _finalize(args: argparse.Namespace) -> PrepareSummary:
    if args.source:
        raise UserError(f"finalize={args.finalize} goes without DATASET, SRC and OUT: drop {args.source}")
    return finalize(args.finalize, max_skipped=args.max_skipped, threads=args.workers)


def _prepare(args: argparse.Namespace) -> PrepareSummary:
    return prepare(
        args.source,
        args.out,
        **_same(args, prepare)
        | {
            "fps": "auto" if args.fps is None else args.fps or None,
            "maker": None if args.beam is None else partial(make_on_beam, options=shlex.split(args.beam)),
        },
    )


def _same(args: argparse.Namespace, function: Callable[..., Any]) -> dict[str, Any]:
    """The flags that are arguments of ``function`` by the same name, and how files are read."""
    same = {name: getattr(args, name) for name in defaults_of(function) if hasattr(args, name)}
    window = tuple(args.window) if args.window else None
    return same | {"read": ReadOptions(args.frame_rate, args.axis, window)}


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

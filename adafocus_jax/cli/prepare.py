"""``adafocus prepare SRC OUT``: a folder or a list of videos becomes sharded records."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from adafocus_jax.data.prepare import prepare

_DESCRIPTION = """\
Turns videos into sharded records that train and evaluate read.

SRC is a folder with one sub-folder of videos per class (perhaps below train/ and val/), or a list file with a line
path,label[,label...] per video (comma, semicolon, space or tab; labels as numbers from 0 or as names of --classes).
Run the same command again to continue a run that was stopped. Videos that do not decode are listed with the reason
in OUT/skipped.csv. The records also open as tfds.builder_from_directory(OUT)."""

_EPILOG = """\
examples:
  adafocus prepare videos/ records/ --val-fraction 0.1
  adafocus prepare train.csv records/ --classes classes.txt --videos videos/ --val-src val.csv"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of this command."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    add = parser.add_argument
    add("src", metavar="SRC", help="folder of class folders, or list file")
    add("out", metavar="OUT", help="folder for the records; made if need be")
    add(
        "--size",
        type=int,
        default=256,
        help="short side of the stored frames in pixels (default %(default)s)",
    )
    add(
        "--fps",
        type=float,
        default=10.0,
        help="highest frame rate to store; 0: no limit (default %(default)s)",
    )
    add("--quality", type=int, default=90, help="JPEG quality, 1...100 (default %(default)s)")
    add("--classes", metavar="FILE", help="class names, one per line: fixes their order; lists need it")
    add(
        "--videos", metavar="DIR", help="folder that a list's paths are relative to (default: the list's own)"
    )
    add(
        "--val-fraction",
        type=float,
        metavar="SHARE",
        help="share of each class to set aside as the split val",
    )
    add("--val-src", metavar="SRC", help="folder or list to make the split val of")
    add("--workers", type=int, help="processes (default: one per core)")
    add("--seed", type=int, default=0, help="of record order and validation split (default %(default)s)")
    add("--max-skipped", type=float, default=0.01, metavar="SHARE", help="fail at the end if more than this share of "
        "the videos does not decode (default %(default)s)")  # fmt: skip
    add(
        "--shards", type=int, help="files per split (default: one per 200 videos, 16 or fewer for small sets)"
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Prepares the records, prints a summary, and returns it."""
    summary = prepare(
        args.src,
        args.out,
        size=args.size,
        fps=args.fps or None,
        quality=args.quality,
        classes=args.classes,
        videos=args.videos,
        val_fraction=args.val_fraction,
        val_src=args.val_src,
        workers=args.workers,
        seed=args.seed,
        max_skipped=args.max_skipped,
        shards=args.shards,
    )
    videos = " + ".join(f"{count} {split}" for split, count in summary.num_videos.items())
    print(
        f"{args.out}: {videos} videos of {summary.num_classes} classes, {sum(summary.num_frames.values())} frames, "
        f"{summary.num_bytes / 1e6:.1f} MB, in {summary.seconds:.0f} s"
    )
    if summary.num_skipped:
        print(f"{summary.num_skipped} left out, for they do not decode: see {args.out}/skipped.csv")
    return dataclasses.asdict(summary)

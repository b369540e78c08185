"""``adafocus prepare DATASET|SRC OUT``: a data set, a folder or a list of videos becomes sharded records."""

from __future__ import annotations

import argparse
import dataclasses
import re
import shlex
from functools import partial
from typing import Any

from adafocus_jax.data.datasets import DATASETS
from adafocus_jax.data.datasets.entries import ReadOptions
from adafocus_jax.data.prepare.beam import make_on_beam
from adafocus_jax.data.prepare.finish import PrepareSummary, finalize
from adafocus_jax.data.prepare.prepare import DEFAULT_FPS, FPS, prepare
from adafocus_jax.errors import UserError

_DESCRIPTION = """\
Turns videos into sharded records that train and evaluate read.

Known data sets, by name, from their videos (or folders of frames) and their official annotation files:
  {datasets}
Your own: SRC is a folder with one sub-folder of videos per class (perhaps below train/ and val/), or a list file with
a line path,label[,label...] per video (comma, semicolon, space or tab; labels as numbers from 0 or as names of
--classes). A folder that has the name of a data set is ./NAME.

Run the same command again to continue a run that was stopped. Videos that do not decode are listed with the reason in
OUT/skipped.csv, annotated videos that are not there in OUT/missing.csv; adafocus inspect OUT checks the result. The
records also open as tfds.builder_from_directory(OUT), and as tfds.data_source("adafocus_DATASET", data_dir=DIR)
where OUT is DIR/adafocus_DATASET/1.0.0."""

_EPILOG = """\
examples:
  adafocus prepare videos/ records/ --val-fraction 0.1
  adafocus prepare train.csv records/ --classes classes.txt --videos videos/ --val-src val.csv
  adafocus prepare something_v1 --videos 20bn-something-something-v1/ --annotations lists/ records/

on several machines (a Slurm array, the workers of a TPU slice), all of which see the videos and write to one folder,
or to folders that are copied into one, .prepare too:
  adafocus prepare kinetics400 --videos k400/ --annotations k400/lists/ records/ --shard $SLURM_ARRAY_TASK_ID/64
  adafocus prepare --finalize records/            # once, when all 64 have ended

on Apache Beam, whose workers must see the same folders and have this package (pip install 'adafocus_jax[beam]'):
  adafocus prepare kinetics400 --videos k400/ --annotations k400/lists/ records/ --beam='--runner=FlinkRunner'"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of this command."""
    parser.description = _DESCRIPTION.format(datasets=" ".join(name for name in DATASETS if name != "custom"))
    parser.epilog = _EPILOG
    add = parser.add_argument
    places = [
        add(
            "source",
            metavar="DATASET|SRC",
            help="name of a data set; or folder of class folders, or list file",
        ),
        add("out", metavar="OUT", help="folder for the records; made if need be"),
    ]
    add(
        "--finalize",
        metavar="OUT",
        action=_Instead,
        places=places,
        help="in place of all that: check that every part of OUT is there and whole, and write the metadata",
    )
    _add_source_flags(parser)
    _add_frame_flags(parser)
    _add_work_flags(parser)


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


def _add_source_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("what to read").add_argument
    add(
        "--videos",
        metavar="DIR",
        help="folder of the videos; for a list, what its paths are relative to (default: the list's own folder)",
    )
    add("--annotations", metavar="DIR", help="folder of the data set's annotation files, or the one file")
    add(
        "--trim",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="cut videos to their annotated segments, where the data set has such",
    )
    add(
        "--columns",
        type=lambda text: tuple(text.split(",")),
        metavar="LIST",
        help="what the columns of lists are, if not path,label: path,frames,label; also start, end, and - to skip",
    )
    add("--classes", metavar="FILE", help="class names, one per line: fixes their order; lists need it")
    add(
        "--val-fraction",
        type=float,
        metavar="SHARE",
        help="share of each class to set aside as the split val",
    )
    add("--val-src", metavar="SRC", help="folder or list to make the split val of")
    add(
        "--frame-rate",
        type=float,
        default=ReadOptions.frame_rate,
        metavar="FPS",
        help="of folders of frames (default %(default)s)",
    )
    add(
        "--axis",
        type=int,
        default=ReadOptions.axis,
        help="of volumes: along which slices follow (default %(default)s)",
    )
    add(
        "--window",
        type=float,
        nargs=2,
        metavar=("LOW", "HIGH"),
        help="of volumes: intensities to show black and white (default: percentiles 1 and 99)",
    )


def _add_frame_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("what to store").add_argument
    rates = ", ".join(f"{name} {'all frames' if fps is None else f'{fps:g}'}" for name, fps in FPS.items())
    add(
        "--size",
        type=int,
        default=256,
        help="short side of the stored frames in pixels (default %(default)s)",
    )
    add("--fps", type=float, help=f"highest frame rate; 0: no limit (default {DEFAULT_FPS:g}; {rates})")
    add("--quality", type=int, default=90, help="JPEG quality, 1...100 (default %(default)s)")
    add("--seed", type=int, default=0, help="of record order and validation split (default %(default)s)")
    add(
        "--shards", type=int, help="files per split (default: one per 200 videos, 16 or fewer for small sets)"
    )
    add(
        "--max-skipped",
        type=float,
        default=0.01,
        metavar="SHARE",
        help="fail at the end if more than this share of the videos does not decode (default %(default)s)",
    )
    add(
        "--max-missing",
        type=float,
        default=0.02,
        metavar="SHARE",
        help="fail at once if more than this share of the annotated videos is not there (default %(default)s)",
    )


def _add_work_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("where to work").add_argument
    add("--workers", type=int, help="processes (default: one per core)")
    add(
        "--shard",
        type=_part,
        default=(0, 1),
        metavar="I/N",
        help="make part I of N (0...N-1) alone: every N-th file, the same on any machine; see --finalize",
    )
    add(
        "--beam",
        metavar="OPTIONS",
        help="make the shards on Apache Beam, with its pipeline options: --beam='--runner=...'",
    )


def _part(text: str) -> tuple[int, int]:
    if not re.fullmatch(r"\d+/\d+", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no part: give I/N, such as 0/8")
    index, count = text.split("/")
    return int(index), int(count)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Prepares the records, or finalizes them, prints a summary, and returns it."""
    summary = _finalize(args) if args.finalize else _prepare(args)
    _print(summary, args.shard)
    return dataclasses.asdict(summary)


def _finalize(args: argparse.Namespace) -> PrepareSummary:
    if args.source:
        raise UserError(f"--finalize {args.finalize} goes without DATASET, SRC and OUT: drop {args.source}")
    return finalize(args.finalize, max_skipped=args.max_skipped, threads=args.workers)


def _prepare(args: argparse.Namespace) -> PrepareSummary:
    return prepare(
        args.source,
        args.out,
        videos=args.videos,
        annotations=args.annotations,
        size=args.size,
        fps="auto" if args.fps is None else args.fps or None,
        quality=args.quality,
        read=ReadOptions(args.frame_rate, args.axis, tuple(args.window) if args.window else None),
        classes=args.classes,
        columns=args.columns,
        trim=args.trim,
        val_fraction=args.val_fraction,
        val_src=args.val_src,
        workers=args.workers,
        seed=args.seed,
        max_skipped=args.max_skipped,
        max_missing=args.max_missing,
        shards=args.shards,
        part=args.shard,
        maker=partial(make_on_beam, options=shlex.split(args.beam)) if args.beam is not None else None,
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
            f"this is part {part[0]} of 0...{part[1] - 1}: when all have ended, run adafocus prepare --finalize {out}"
        )
    if summary.num_skipped:
        where = f": see {out}/skipped.csv" if summary.complete else ""
        print(f"{summary.num_skipped} left out, for they do not decode{where}")
    if summary.num_missing:
        print(f"{summary.num_missing} annotated videos are not there: see {out}/missing.csv")

"""``adafocus predict``: what is in these videos, and what the model looked at to say so."""

from __future__ import annotations

import argparse
import logging
from typing import Any

from adafocus_jax.checkpoint import checkpoint_folder
from adafocus_jax.data.datasets.entries import ReadOptions
from adafocus_jax.early_exit import BUDGET_FRAC, CRITERIA
from adafocus_jax.errors import UserError
from adafocus_jax.evaluate.exits import stored_policies
from adafocus_jax.io import progress
from adafocus_jax.predict.inputs import STANDARD_INPUT, expand_videos
from adafocus_jax.predict.loading import add_checkpoint_arguments
from adafocus_jax.predict.predictor import Predictor
from adafocus_jax.predict.results import as_entry, as_text, json_lines
from adafocus_jax.visualize.pictures import PictureFolder

log = logging.getLogger(__name__)

_DESCRIPTION = """\
Classifies videos with a trained checkpoint. Each video gets a line as soon as it is done; one that does not read does
not stop the others, and the command then ends with status 1.

VIDEO is a video file, a folder of frames, a NIfTI volume, a folder of any of these, a pattern (quoted), @FILE (a text
file with a path per line), or - (such lines from standard input). --jsonl writes a JSON object per video: video, top,
exit, gflops, frames (numbers of the focus frames), seconds (their times), boxes (top, left, height, width in pixels of
the square frame that the model sees), ms; or video and error.

Where adafocus evaluate --early-exit has stored exit thresholds, videos leave early, within --budget on average; the
classes are those of the exit that was taken. --draw writes, per video, NAME-frames.png (candidate and chosen frames,
boxes, patches), NAME-weights.png (the temporal policy over time; not of videos that left before it ran) and
NAME-exits.png (class scores per exit); --overlay also NAME-overlay.mp4, the playing video with all of this."""

_EPILOG = """\
examples:
  adafocus predict --checkpoint runs/mine clip.mp4 frames/ brain.nii.gz
  adafocus predict --checkpoint runs/mine 'videos/**/*.mp4' --budget 0.5 --jsonl predictions.jsonl
  find videos -name '*.mp4' | adafocus predict --checkpoint runs/mine - --jsonl - | head
  adafocus predict --checkpoint runs/mine clip.mp4 --no-early-exit --draw pictures/ --overlay"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of this command."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    add_checkpoint_arguments(parser)
    add = parser.add_argument
    add("videos", nargs="*", metavar="VIDEO", help="what to classify")
    add("--list", metavar="FILE", help="a text file with a path per line, the same as @FILE")
    add("--jsonl", metavar="FILE", help="write a JSON object per video as they come (- for standard output)")
    add("--top", type=int, default=5, help="classes to name (default %(default)s)")
    exits = parser.add_mutually_exclusive_group()
    exits.add_argument("--budget", metavar="SHARE|GFLOPS", help="mean cost per video: a share of the full cost, or "
        f"giga multiply-adds, such as 9.5G (default: {BUDGET_FRAC} where thresholds are stored)")  # fmt: skip
    exits.add_argument(
        "--exit-share", type=float, metavar="Q", help="take the exit thresholds that were solved for this q"
    )
    exits.add_argument("--no-early-exit", action="store_true", help="run every video to the last exit")
    add("--criterion", choices=CRITERIA, default="confidence", help="exit criterion (default %(default)s)")
    add("--draw", metavar="DIR", help="write pictures of what the model looked at")
    add("--overlay", action="store_true", help="with --draw: also write the video with boxes drawn")
    add(
        "--frame-rate",
        type=float,
        default=ReadOptions.frame_rate,
        help="of folders of frames (default %(default)s)",
    )
    add(
        "--axis",
        type=int,
        default=ReadOptions.axis,
        help="of volumes, as in adafocus prepare (default %(default)s)",
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Predicts, prints a line per video, writes; ``status`` is 1 where a video failed."""
    if args.overlay and not args.draw:
        raise UserError("--overlay needs --draw DIR, the folder to write it to")
    words = [*args.videos, *([f"@{args.list}"] if args.list else [])]
    if not words:
        raise UserError("no videos: give files, folders, patterns, @FILE, or - for standard input")
    predictor = Predictor.load(
        args.checkpoint,
        which=args.which,
        budget=args.budget or _default_budget(args),
        exit_share=args.exit_share,
        criterion=args.criterion,
        options=ReadOptions(args.frame_rate, args.axis),
    )
    pictures = PictureFolder(args.draw, predictor.spec, predictor.options) if args.draw else None
    videos = expand_videos(words) if STANDARD_INPUT in words else list(expand_videos(words))
    entries, failed = [], 0
    with (
        progress("predicting", len(videos) if isinstance(videos, list) else None) as advance,
        json_lines(args.jsonl) as write_line,
    ):
        for found in predictor(videos, keep_frames=pictures is not None):
            entry = as_entry(found, args.top)
            if found.error is not None:
                failed += 1
                log.error("%s", as_text(found))
            else:
                if pictures:
                    entry["pictures"] = pictures.write(found, overlay=args.overlay)
                if args.jsonl != "-":
                    print(as_text(found, args.top), flush=True)
            write_line(entry)
            if args.json:
                entries.append(entry)
            advance(1)
    return {"videos": entries, "failed": failed, "status": 1 if failed else 0}


def _default_budget(args: argparse.Namespace) -> float | None:
    given = args.no_early_exit or args.exit_share is not None
    return None if given or not stored_policies(checkpoint_folder(args.checkpoint)) else BUDGET_FRAC

"""``adafocus predict``: what is in these videos, and what the model looked at to say so."""

from __future__ import annotations

import argparse
import contextlib
import logging
from typing import Any

from adafocus_jax.cli.flags import add_backend_arguments
from adafocus_jax.data.datasets.entries import ReadOptions
from adafocus_jax.early_exit import BUDGET_FRAC, CRITERIA
from adafocus_jax.errors import UserError
from adafocus_jax.io import progress
from adafocus_jax.predict.exit_policy import default_budget
from adafocus_jax.predict.inputs import STANDARD_INPUT, expand_videos
from adafocus_jax.predict.loading import add_checkpoint_arguments
from adafocus_jax.predict.predictor import Predictor
from adafocus_jax.predict.results import as_entry, as_text, csv_rows, json_lines
from adafocus_jax.visualize.pictures import PictureFolder

log = logging.getLogger(__name__)

_DESCRIPTION = """\
Classifies videos with a trained checkpoint. One that does not read stops no others; the status is then 1.

VIDEO is a video file, a folder of frames, a NIfTI volume, a folder of any of these, a pattern (quoted), @FILE (a text
file with a path per line), or - (such lines from standard input). --jsonl writes objects of video, top, exit, gflops,
frames (numbers of the focus frames), seconds (their times), boxes (top, left, height, width in pixels of the square
frame that the model sees), ms; or video and error. --window predicts stretches of long videos, or of a live --stream,
each with its start and end in seconds; of a stream, what is not predicted in time is dropped.

Where adafocus evaluate --early-exit has stored exit thresholds, videos leave early, within --budget on average; the
classes are those of the exit that was taken. --draw writes NAME-frames.png (candidate and chosen frames, boxes,
patches), NAME-weights.png (the temporal policy, where it ran) and NAME-exits.png (class scores per exit), or with
--window NAME-timeline.png; --overlay also NAME-overlay.mp4, the playing video with all of this."""

_EPILOG = """\
examples:
  adafocus predict --checkpoint runs/mine clip.mp4 frames/ brain.nii.gz --draw pictures/ --overlay
  adafocus predict --checkpoint runs/mine 'videos/**/*.mp4' --budget 0.5 --jsonl predictions.jsonl
  find videos -name '*.mp4' | adafocus predict --checkpoint runs/mine - --jsonl - | head
  adafocus predict --checkpoint runs/mine --stream rtsp://camera/live --window 4 --stride 1 --jsonl -
  adafocus predict --checkpoint runs/mine match.mp4 --window 4 --stride 2 --csv events.csv --draw pictures/"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of this command."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    add_checkpoint_arguments(parser)
    add = parser.add_argument
    add("videos", nargs="*", metavar="VIDEO", help="what to classify")
    add("--list", metavar="FILE", help="a text file with a path per line, the same as @FILE")
    add("--jsonl", metavar="FILE", help="write a JSON object per video as they come (- for standard output)")
    add("--csv", metavar="FILE", help="write a row per video as they come")
    add("--top", type=int, default=5, help="classes to name (default %(default)s)")
    exits = parser.add_mutually_exclusive_group()
    text = f"mean cost: share of the full cost, or 9.5G (default: {BUDGET_FRAC} where thresholds are stored)"
    exits.add_argument("--budget", metavar="SHARE|GFLOPS", help=text)
    exits.add_argument("--exit-share", type=float, metavar="Q", help="take the thresholds solved for this q")
    exits.add_argument("--no-early-exit", action="store_true", help="run every video to the last exit")
    add("--criterion", choices=CRITERIA, default="confidence", help="exit criterion (default %(default)s)")
    add("--window", type=float, metavar="SEC", help="predict stretches of this length, over time")
    add("--stride", type=float, metavar="SEC", help="from one to the next (default: --window)")
    add("--stream", metavar="ADDRESS", help="in place of VIDEO: rtsp, http or udp, or /dev/video0")
    add_backend_arguments(parser)
    add("--draw", metavar="DIR", help="write pictures of what the model looked at")
    add("--overlay", action="store_true", help="with --draw: also write the video with boxes drawn")
    add("--frame-rate", type=float, default=ReadOptions.frame_rate, help="of folders of frames (%(default)s)")
    add("--axis", type=int, default=ReadOptions.axis, help="of volumes (default %(default)s)")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Predicts, prints a line per video, writes; ``status`` is 1 where a video failed."""
    words = [*args.videos, *([f"@{args.list}"] if args.list else [])]
    _check(args, words)
    free = args.budget is None and args.exit_share is None and not args.no_early_exit
    budget = default_budget(args.checkpoint) if free else args.budget
    videos = expand_videos(words) if STANDARD_INPUT in words else list(expand_videos(words))
    total = None if args.window or not isinstance(videos, list) else len(videos)
    load: dict[str, Any] = {"which": args.which, "exit_share": args.exit_share, "criterion": args.criterion}
    load |= {"backend": args.backend, "precision": args.precision, "every_exit": bool(args.draw)}
    load |= {"max_in_flight": 1} if args.stream or total == 1 else {}  # starts sooner
    load["options"] = ReadOptions(args.frame_rate, args.axis)
    predictor = Predictor.load(args.checkpoint, budget=budget, **load)
    entries, failed = [], 0
    with contextlib.ExitStack() as stack:
        writers = [stack.enter_context(to) for to in (json_lines(args.jsonl), csv_rows(args.csv, args.top))]
        pictures = PictureFolder(args.draw, predictor.spec, predictor.options) if args.draw else None
        stack.enter_context(pictures or contextlib.nullcontext())
        advance = stack.enter_context(progress("predicting", total, "windows" if args.window else "videos"))
        if args.stream:
            predictions = predictor.stream(args.stream, args.window, args.stride)
        elif args.window:
            predictions = predictor.windows(videos, args.window, args.stride)
        else:
            predictions = predictor(videos, keep_frames=pictures is not None)
        for found in predictions:
            entry = as_entry(found, args.top)
            if found.error is not None:
                failed += 1
                log.error("%s", as_text(found))
            elif args.jsonl != "-" and args.csv != "-":
                print(as_text(found, args.top), flush=True)
            if pictures and found.error is None:
                entry["pictures"] = pictures.write(found, overlay=args.overlay)
            for write in writers:
                write(entry)
            entries += [entry] if args.json else []
            advance(1)
    return {"videos": entries, "failed": failed, "status": 1 if failed else 0}


def _check(args: argparse.Namespace, words: list[str]) -> None:
    if bool(words) == bool(args.stream):
        raise UserError("give videos: files, folders, patterns, @FILE or -; or else one --stream ADDRESS")
    if args.overlay and (not args.draw or args.window):
        raise UserError("--overlay needs --draw DIR, the folder to write it to, and no --window")
    if (args.stream and (args.draw or not args.window)) or (args.stride and not args.window):
        raise UserError("--stride and --stream need --window SEC, and a stream takes no --draw")

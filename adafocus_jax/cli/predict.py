"""``adafocus predict``: what is in these videos, and what the model looked at to say so."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from adafocus_jax.data.media.video import read_video
from adafocus_jax.early_exit import BUDGET_FRAC, CRITERIA, choose_policy
from adafocus_jax.errors import UserError
from adafocus_jax.evaluate.exits import stored_policies
from adafocus_jax.evaluate.predict import make_predict_function, round_up_to_devices
from adafocus_jax.io import progress
from adafocus_jax.predict.loading import add_checkpoint_arguments, load_model
from adafocus_jax.predict.videos import predict_videos, summary
from adafocus_jax.types import VideoPrediction
from adafocus_jax.visualize.curves import class_scores, temporal_weights
from adafocus_jax.visualize.files import write_png
from adafocus_jax.visualize.frames import contact_sheet
from adafocus_jax.visualize.overlay import FrameCrop, write_overlay

log = logging.getLogger(__name__)

_DESCRIPTION = """\
Classifies videos with a trained checkpoint and prints the five most probable classes of each.

--draw writes, per video, NAME-frames.png (candidate frames, the chosen ones, their boxes and patches), NAME-weights.png
(the temporal policy over time) and NAME-exits.png (class scores per exit, and where the video would have left);
--overlay also NAME-overlay.mp4, the video with the boxes drawn. Where adafocus evaluate --early-exit has stored exit
thresholds, each video is also told the exit at which --budget and --criterion would have let it leave."""

_EPILOG = """\
examples:
  adafocus predict --checkpoint runs/mine clip.mp4
  adafocus predict --checkpoint runs/mine clip.mp4 --budget 0.5 --criterion entropy
  adafocus predict --checkpoint runs/mine videos/*.mp4 --draw pictures/ --overlay --json predictions.json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of this command."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    add_checkpoint_arguments(parser)
    add = parser.add_argument
    add("videos", nargs="+", metavar="VIDEO", help="video files")
    add("--draw", metavar="DIR", help="write pictures of what the model looked at")
    add("--overlay", action="store_true", help="with --draw: also write the video with boxes drawn")
    add("--budget", type=float, default=BUDGET_FRAC, metavar="SHARE", help="of the full cost that the stored exit "
        "thresholds may spend on average (default %(default)s)")  # fmt: skip
    add("--criterion", choices=CRITERIA, default="confidence", help="how sure is sure (default %(default)s)")
    add("--top", type=int, default=5, help="classes to name (default %(default)s)")


def run(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Predicts, prints a table, draws; returns one entry per video. A video that fails does not stop the others."""
    if args.overlay and not args.draw:
        raise UserError("--overlay needs --draw DIR, the folder to write it to")
    trained = load_model(args)
    predict = make_predict_function(trained.model, trained.checkpoint.variables)
    solved, batch_size = stored_policies(trained.folder), round_up_to_devices(1)
    policy = choose_policy(solved, args.criterion, args.budget) if solved else None
    entries, failures = [], []
    table = Table("video", *(f"top {k + 1}" for k in range(min(args.top, len(trained.classes)))))
    with progress("predicting", len(args.videos)) as advance:
        for path in args.videos:
            try:
                (found,) = predict_videos(
                    predict,
                    [path],
                    trained.spec,
                    trained.classes,
                    trained.exit_gflops,
                    policy,
                    batch_size=batch_size,
                )
                entries.append(summary(found, args.top))
                if args.draw:
                    entries[-1]["pictures"] = draw(
                        found, path, Path(args.draw), trained.spec.short_side, args.overlay
                    )
            except UserError as error:
                if args.debug or len(args.videos) == 1:
                    raise
                failures.append(str(error))
            advance(1)
    for entry in entries:
        table.add_row(entry["video"], *(f"{top['class']} {top['probability']:.0%}" for top in entry["top"]))
    if entries:
        Console().print(table)
    if failures:
        raise UserError(f"{len(failures)} of {len(args.videos)} videos failed: {'; '.join(failures)}")
    return entries


def draw(found: VideoPrediction, path: str, folder: Path, short_side: int, overlay: bool) -> list[str]:
    """Writes the pictures of one video; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = Path(path).stem
    pictures = {"frames": contact_sheet, "weights": temporal_weights, "exits": class_scores}
    written = []
    for name, picture in pictures.items():
        written.append(str(folder / f"{stem}-{name}.png"))
        write_png(written[-1], picture(found))
    if overlay:
        video = read_video(path)
        height, width = video.frames[0].shape[:2]
        scale = min(height, width) / short_side
        side = found.frames.shape[1] * scale
        crop = FrameCrop((height - side) / 2, (width - side) / 2, scale)
        written.append(str(folder / f"{stem}-overlay.mp4"))
        write_overlay(written[-1], video.frames, video.fps, found, crop)
    return written

"""``adafocus inspect OUT``: verifies records, prints what they hold, and draws samples."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from typing import Any

from adafocus_jax.cli.flags import at_least, defaults_of
from adafocus_jax.data.batches.clips import ClipSpec
from adafocus_jax.data.batches.sources import open_data
from adafocus_jax.data.prepare.statistics import split_statistics
from adafocus_jax.data.prepare.verify import Damage, inspect_records
from adafocus_jax.io import is_remote
from adafocus_jax.visualize.samples import draw_samples

_DESCRIPTION = """\
Reads every byte of a folder of records, compares it with the checksums that prepare stored, and opens every record.
Prints statistics of each split, and draws some videos into OUT/contact_sheet.png; with --clips also training clips,
augmented as the model sees them, into OUT/clips.png.

Exits with status 1 if anything is damaged; each damaged shard, record and video is named on standard error."""

_EPILOG = """\
examples:
  adafocus inspect records/
  adafocus inspect records/ --decode --videos 0                           # every JPEG image as well, no picture
  adafocus inspect records/ --clips 8 --config configs/custom.py --pictures /tmp/look"""

_MAX_DAMAGE_LINES = 20
_BAR = 30


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of this command."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    add = parser.add_argument
    text = "folder of records, local or remote (gs://…; s3://…, with AWS_ENDPOINT_URL on any server)"
    add("out", metavar="OUT", help=text)
    add("--decode", action="store_true", help="decode every JPEG image, too; takes longer")
    add("--workers", type=at_least(1), metavar="N", help="files to read at a time (default: one per core)")
    add("--split", default="train", help="split to draw from (default %(default)s)")
    for name, text in {
        "videos": "videos on the contact sheet; 0: no sheet",
        "clips": "augmented training clips to draw",
        "seed": "seed of the augmentation",
    }.items():
        default = defaults_of(draw_samples)[name]
        add(f"--{name}", type=at_least(0), default=default, metavar="N", help=f"{text} (default %(default)s)")
    add("--config", metavar="FILE[:VARIANT]", help="how clips are cut (default: 48 frames of 224 px)")
    add("--pictures", metavar="DIR", help="folder for the pictures (default: OUT, or . if OUT is remote)")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Inspects the records, prints what it finds, draws the pictures, and returns the figures."""
    found = inspect_records(args.out, decode=args.decode, threads=args.workers)
    splits = {name: split_statistics(contents, found.classes) for name, contents in found.splits.items()}
    if splits:
        traits = "".join(f", {name} {value}" for name, value in found.traits.items())
        print(f"{args.out}: {found.name}, {len(found.classes)} classes{traits}")
    for name, split in splits.items():
        _print_split(name, split)
    _print_damage(args.out, found.damage)
    return {
        "status": 1 if found.damage else 0,
        "name": found.name,
        "num_classes": len(found.classes),
        **found.traits,
        "splits": splits,
        "damage": [dataclasses.asdict(damage) for damage in found.damage],
        "pictures": [] if found.damage else _draw(args),
    }


def _print_split(name: str, split: dict[str, Any]) -> None:
    frames, (height, width) = split["frames_per_video"], split["mean_size"]
    print(
        f"\n{name}: {split['num_videos']} videos, {split['num_frames']} frames of {width:.0f} × {height:.0f} px on "
        f"average, {split['num_bytes'] / 1e6:.1f} MB of JPEG"
    )
    print(f"  frames per video: {frames['min']} to {frames['max']}, median {frames['median']:g}")
    edges, counts = frames["histogram"]["edges"], frames["histogram"]["counts"]
    for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True):
        print(f"  {low:>6} … {high - 1:<6} {'█' * round(_BAR * count / max(counts))} {count}")
    ordered = sorted(split["videos_per_class"].items(), key=lambda item: item[1])
    print("  smallest classes: " + ", ".join(f"{label} {count}" for label, count in ordered[:3]))
    print("  largest classes: " + ", ".join(f"{label} {count}" for label, count in ordered[:-4:-1]))


def _print_damage(out: str, damage: list[Damage]) -> None:
    if not damage:
        print("\nintact: all checksums match, and every record reads")
    for one in damage[:_MAX_DAMAGE_LINES]:
        video = f" (video {one.video})" if one.video and one.video not in one.reason else ""
        where = "" if one.file in one.reason else f"{out}/{one.file} "
        print(f"damaged: {where}{one.reason}{video}", file=sys.stderr)
    if len(damage) > _MAX_DAMAGE_LINES:
        print(f"... and {len(damage) - _MAX_DAMAGE_LINES} more", file=sys.stderr)


def _draw(args: argparse.Namespace) -> list[str]:
    if not args.videos and not args.clips:
        return []
    source = open_data(args.out, args.split)
    folder = args.pictures or ("." if is_remote(args.out) else args.out)
    spec = _clip_spec(args, source.classes)
    pictures = draw_samples(source, folder, videos=args.videos, clips=args.clips, spec=spec, seed=args.seed)
    print(*pictures, sep="\n")
    return pictures


def _clip_spec(args: argparse.Namespace, classes: tuple[str, ...]) -> ClipSpec | None:
    if not args.config or not args.clips:
        return None
    # JAX takes seconds to start, which no other part of this command needs.
    from adafocus_jax.config import clip_spec, for_classes, load_config, make_model

    settings = load_config(args.config, [f"--config.data.dir={args.out}"])
    return clip_spec(settings, make_model(for_classes(settings, classes)))

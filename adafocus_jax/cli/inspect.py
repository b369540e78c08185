"""``adafocus inspect OUT``: are the records whole, what is in them, and what do they look like."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from adafocus_jax.data.batches.pipeline import ClipSpec, train_batches
from adafocus_jax.data.prepare.verify import Contents, Damage, Inspection, inspect_records
from adafocus_jax.data.records.reader import RecordSource, open_records
from adafocus_jax.data.records.remote import open_remote
from adafocus_jax.data.records.storage import CacheOptions
from adafocus_jax.errors import UserError
from adafocus_jax.io import is_remote
from adafocus_jax.visualize.files import write_png
from adafocus_jax.visualize.strips import Strip, draw_strips

_DESCRIPTION = """\
Reads every byte of a folder of records, compares it with the checksums that prepare stored, and opens every record.
Prints what is in each split, and draws some videos into OUT/contact_sheet.png, with --clips also training clips,
augmented as the model sees them, into OUT/clips.png.

Ends with status 1 if anything is damaged; each damaged shard, record and video is named on standard error."""

_EPILOG = """\
examples:
  adafocus inspect records/
  adafocus inspect records/ --decode --videos 0                           # every JPEG image as well, no picture
  adafocus inspect records/ --clips 8 --config configs/custom.py --pictures /tmp/look"""

_MAX_LINES = 20
_FRAMES_PER_STRIP = 8
_BAR = 30


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of this command."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    add = parser.add_argument
    add("out", metavar="OUT", help="folder of records, also remote (gs://..., s3://...)")
    add("--decode", action="store_true", help="decode every JPEG image, too; takes longer")
    add("--workers", type=int, help="files to read at a time (default: one per core)")
    add("--split", default="train", help="split to draw from (default %(default)s)")
    add(
        "--videos", type=int, default=8, help="videos on the contact sheet; 0: no sheet (default %(default)s)"
    )
    add("--clips", type=int, default=0, help="augmented training clips to draw (default %(default)s)")
    add("--config", metavar="FILE[:VARIANT]", help="how the clips are cut (default: 48 candidates of 224 px)")
    add("--seed", type=int, default=0, help="of the clips' augmentation (default %(default)s)")
    add(
        "--pictures",
        metavar="DIR",
        help="folder for the pictures (default: OUT; if that is remote, this one)",
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Inspects the records, prints what it finds, draws the pictures, and returns the figures."""
    for name in ("videos", "clips", "seed"):
        if getattr(args, name) < 0:
            raise UserError(f"--{name} {getattr(args, name)} is not valid: give 0 or more")
    if args.workers is not None and args.workers < 1:
        raise UserError(f"--workers {args.workers} is not valid: give 1 or more")
    found = inspect_records(args.out, decode=args.decode, threads=args.workers)
    splits = {name: _figures(contents, found.classes) for name, contents in found.splits.items()}
    _print_splits(args.out, found, splits)
    _print_damage(args.out, found.damage)
    pictures = [] if found.damage else _draw(args)
    return {
        "status": 1 if found.damage else 0,
        "name": found.name,
        "num_classes": len(found.classes),
        **found.traits,
        "splits": splits,
        "damage": [dataclasses.asdict(damage) for damage in found.damage],
        "pictures": pictures,
    }


def _figures(contents: Contents, classes: tuple[str, ...]) -> dict[str, Any]:
    lengths = _expand(contents.lengths) if contents.lengths else np.zeros(1, np.int64)
    sizes = _expand(contents.sizes) if contents.sizes else np.zeros((1, 2), np.int64)
    edges, counts = _histogram(lengths)
    return {
        "num_videos": contents.num_videos,
        "num_frames": contents.num_frames,
        "num_bytes": contents.num_bytes,
        "frames_per_video": {
            "min": int(lengths.min()),
            "median": float(np.median(lengths)),
            "max": int(lengths.max()),
            "histogram": {"edges": edges, "counts": counts},
        },
        "mean_size": sizes.mean(axis=0).tolist(),
        "videos_per_class": {name: contents.labels[number] for number, name in enumerate(classes)},
    }


def _expand(counter: Counter[Any]) -> np.ndarray:
    return np.repeat(np.array(list(counter), np.int64), list(counter.values()), axis=0)


def _histogram(lengths: np.ndarray) -> tuple[list[int], list[int]]:
    """``edges [n + 1]`` and ``counts [n]`` of up to ten bins; a bin holds lengths from its edge up to the next."""
    low, high = int(lengths.min()), int(lengths.max())
    width = -(-(high + 1 - low) // 10)
    edges = list(range(low, high + width + 1, width))
    return edges, np.bincount((lengths - low) // width, minlength=len(edges) - 1).tolist()


def _print_splits(out: str, found: Inspection, splits: dict[str, dict[str, Any]]) -> None:
    if splits:
        print(
            f"{out}: {found.name}, {len(found.classes)} classes"
            + "".join(f", {name} {value}" for name, value in found.traits.items())
        )
    for name, split in splits.items():
        frames, (height, width) = split["frames_per_video"], split["mean_size"]
        print(
            f"\n{name}: {split['num_videos']} videos, {split['num_frames']} frames of {width:.0f} × {height:.0f} px in "
            f"the mean, {split['num_bytes'] / 1e6:.1f} MB of JPEG"
        )
        print(f"  frames per video: {frames['min']} to {frames['max']}, median {frames['median']:g}")
        _print_histogram(**frames["histogram"])
        ordered = sorted(split["videos_per_class"].items(), key=lambda item: item[1])
        print("  smallest classes: " + ", ".join(f"{label} {count}" for label, count in ordered[:3]))
        print("  largest classes: " + ", ".join(f"{label} {count}" for label, count in ordered[:-4:-1]))


def _print_histogram(edges: list[int], counts: list[int]) -> None:
    for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True):
        bar = "█" * round(_BAR * count / max(counts))
        print(f"  {low:>6} … {high - 1:<6} {bar} {count}")


def _print_damage(out: str, damage: list[Damage]) -> None:
    if not damage:
        print("\nwhole: every checksum is right, and every record reads")
    for one in damage[:_MAX_LINES]:
        video = f" (video {one.video})" if one.video and one.video not in one.reason else ""
        where = "" if one.file in one.reason else f"{out}/{one.file} "
        print(f"damaged: {where}{one.reason}{video}", file=sys.stderr)
    if len(damage) > _MAX_LINES:
        print(f"... and {len(damage) - _MAX_LINES} more", file=sys.stderr)


def _draw(args: argparse.Namespace) -> list[str]:
    if not args.videos and not args.clips:
        return []
    remote = is_remote(args.out)
    source = (
        open_remote(args.out, args.split, CacheOptions()) if remote else open_records(args.out, args.split)
    )
    folder = Path(args.pictures or ("." if remote else args.out))
    pictures = []
    for name, strips in (("contact_sheet", _videos(source, args.videos)), ("clips", _clips(source, args))):
        if strips:
            pictures.append(str(folder / f"{name}.png"))
            write_png(pictures[-1], draw_strips(strips))
            print(pictures[-1])
    return pictures


def _videos(source: RecordSource, count: int) -> list[Strip]:
    strips = []
    for index in np.unique(np.linspace(0, len(source) - 1, count).round()).astype(int):
        record = source[index]
        frames = [record.frame(number) for number in _evenly(len(record.frames))]
        strips.append(Strip(f"{_title(source, index)}, {len(record.frames)} frames", frames))
    return strips


def _clips(source: RecordSource, args: argparse.Namespace) -> list[Strip]:
    if not args.clips:
        return []
    spec = _spec(args, source.classes)
    (batch,) = train_batches(source, spec, batch_size=args.clips, seed=args.seed, num_steps=1)
    return [
        Strip(_title(source, index), clip[_evenly(len(clip))])
        for index, clip in zip(batch["index"], batch["frames"], strict=True)
    ]


def _spec(args: argparse.Namespace, classes: tuple[str, ...]) -> ClipSpec:
    if not args.config:
        return ClipSpec(num_candidates=48, image_size=224)
    # These start JAX, which takes seconds that no other part of this command needs.
    from adafocus_jax.config import clip_spec, for_classes, load_config, make_model

    settings = load_config(args.config, [f"--config.data.dir={args.out}"])
    return clip_spec(settings, make_model(for_classes(settings, classes)))


def _title(source: RecordSource, index: int) -> str:
    record = source[index]
    return f"{', '.join(source.classes[label] for label in record.labels)}: {record.name}"


def _evenly(count: int) -> np.ndarray:
    return np.linspace(0, count - 1, min(count, _FRAMES_PER_STRIP)).round().astype(int)

"""The flags of ``adafocus prepare``."""

from __future__ import annotations

import argparse
import re
from typing import Any

from adafocus_jax.cli.flags import defaults_of
from adafocus_jax.data.datasets.entries import ReadOptions
from adafocus_jax.data.prepare.prepare import DEFAULT_FPS, FPS, prepare

_RATES = ", ".join(f"{name} {'all frames' if fps is None else f'{fps:g}'}" for name, fps in FPS.items())


def _part(text: str) -> tuple[int, int]:
    if not re.fullmatch(r"\d+/\d+", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a part: give I/N, such as 0/8")
    index, count = text.split("/")
    return int(index), int(count)


_DIR, _FILE, _SHARE = {"metavar": "DIR"}, {"metavar": "FILE"}, {"type": float, "metavar": "SHARE"}
_FPS: dict[str, Any] = {"type": float, "metavar": "FPS"}
_COUNT: dict[str, Any] = {"type": int, "metavar": "N"}
_FLAGS: dict[str, dict[str, tuple[dict[str, Any], str]]] = {
    "what to read": {
        "--videos": (
            _DIR,
            "folder of the videos; of a list: the root of its paths (default: its own folder)",
        ),
        "--annotations": (_DIR, "folder of the data set's annotation files, or the one file"),
        "--trim": (
            {"action": argparse.BooleanOptionalAction},
            "cut videos to their annotated segments, where the data set has them",
        ),
        "--classes": (_FILE, "class names, one per line, which fixes their order; required for lists"),
        "--columns": (
            {"metavar": "LIST", "type": lambda text: tuple(text.split(","))},
            "columns of a list if they are not path,label: path,frames,label; also start, end, and - to skip one",
        ),
        "--val-fraction": (_SHARE, "share of each class to hold out as the split val"),
        "--val-src": ({"metavar": "SRC"}, "folder or list to make the split val from"),
        "--frame-rate": (_FPS, "frame rate of folders of frames (default %(default)s)"),
        "--axis": (_COUNT, "axis of volumes along which slices follow each other (default %(default)s)"),
        "--window": (
            {"type": float, "nargs": 2, "metavar": ("LOW", "HIGH")},
            "intensities of volumes to map to black and white (default: percentiles 1 and 99)",
        ),
    },
    "what to store": {
        "--size": (_COUNT, "short side of the stored frames in pixels (default %(default)s)"),
        "--fps": ({"type": float}, f"highest frame rate; 0: no limit (default {DEFAULT_FPS:g}; {_RATES})"),
        "--quality": (_COUNT, "JPEG quality, 1...100 (default %(default)s)"),
        "--seed": (_COUNT, "seed of the record order and the validation split (default %(default)s)"),
        "--shards": (_COUNT, "shards per split (default: one per 200 videos, 16 or fewer for small sets)"),
        "--max-skipped": (_SHARE, "fail if a larger share of videos does not decode (default %(default)s)"),
        "--max-missing": (
            _SHARE,
            "fail early if a larger share of annotated videos is missing (default %(default)s)",
        ),
    },
    "where to work": {
        "--workers": (_COUNT, "processes (default: one per core)"),
        "--shard": (
            {"type": _part, "dest": "part", "metavar": "I/N"},
            "make only part I of N (0...N-1): every N-th shard, the same on any machine; see --finalize",
        ),
        "--beam": (
            {"metavar": "OPTIONS"},
            "make the shards on Apache Beam, with its pipeline options: --beam='--runner=...'",
        ),
    },
}


_PLACES = (
    ("source", "DATASET|SRC", "name of a data set; or folder of class folders, or list file"),
    ("out", "OUT", "folder for the records, local or remote (gs://..., s3://...)"),
)


class _Instead(argparse.Action):
    """A flag that takes the place of the positional arguments."""

    def __init__(self, places: list[argparse.Action], **options: Any) -> None:
        super().__init__(**options)
        self._places = places

    def __call__(
        self, parser: Any, namespace: argparse.Namespace, value: Any, option_string: Any = None
    ) -> None:
        setattr(namespace, self.dest, value if self.nargs is None else True)
        for place in self._places:
            place.required = False


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this command; their defaults are those of ``prepare`` and ``ReadOptions``."""
    places = [parser.add_argument(name, metavar=word, help=text) for name, word, text in _PLACES]
    parser.add_argument(
        "--finalize",
        metavar="OUT",
        action=_Instead,
        places=places,
        help="instead of all that: verify that every part of OUT is complete, and write the metadata",
    )
    parser.add_argument(
        "--check",
        action=_Instead,
        nargs=0,
        places=places[1:],
        help="write nothing: decode the first and last frames of every video, and list what would be skipped",
    )
    default = defaults_of(ReadOptions) | defaults_of(prepare) | {"fps": None}
    for title, flags in _FLAGS.items():
        group = parser.add_argument_group(title)
        for flag, (options, text) in flags.items():
            name = options.get("dest", flag.removeprefix("--").replace("-", "_"))
            group.add_argument(flag, default=default.get(name), help=text, **options)

"""``adafocus export``: a checkpoint as files that run without this package."""

from __future__ import annotations

import argparse
from typing import Any

from adafocus_jax.cli.flags import at_least
from adafocus_jax.export import export_onnx

_DESCRIPTION = """\
Writes a checkpoint as ONNX models into OUT, with manifest.json: classes, preprocessing, exit thresholds, and shape and
meaning of every input and output. Models take uint8 frames; normalisation is inside. They are checked by onnx.checker.

By default each stage of inference is a model: glance (frames to features and the first exits), choose (features to
frames and boxes) and look (patches to the exits behind), so that the caller can stop at an exit, by the stored
thresholds. --whole writes one model from all frames to the logits of all exits instead. The leading axis is free unless
--rows fixes it."""

_EPILOG = """\
examples:
  adafocus export runs/mine exported/
  adafocus export runs/mine exported/ --rows 1 8
  adafocus export runs/mine exported/ --whole"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of this command."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    add = parser.add_argument
    add("checkpoint", metavar="CHECKPOINT", help="workdir of a training run, or a folder of checkpoints")
    add("out", metavar="OUT", help="folder to make")
    add("--format", choices=("onnx",), default="onnx", help="(default %(default)s)")
    add("--which", choices=("best", "latest"), default="best", help="which checkpoint (default %(default)s)")
    add("--whole", action="store_true", help="one model without early exit")
    text = "lengths of the leading axis, a model for each (default: one model for any length)"
    add("--rows", type=at_least(1), nargs="+", default=(), metavar="N", help=text)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Exports, prints a line per file, and returns the manifest."""
    manifest = export_onnx(args.checkpoint, args.out, which=args.which, whole=args.whole, rows=args.rows)
    for name, file in manifest["files"].items():
        inputs, outputs = (", ".join(file[key]) for key in ("inputs", "outputs"))
        print(f"{args.out}/{name}: {inputs} -> {outputs}")
    return manifest

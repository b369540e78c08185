"""``adafocus export``: a checkpoint as files that run without this package."""

from __future__ import annotations

import argparse
from typing import Any

from adafocus_jax.cli.flags import at_least
from adafocus_jax.errors import UserError
from adafocus_jax.export import export_jax, export_onnx

_DESCRIPTION = """\
Writes a checkpoint as ONNX models into OUT, with manifest.json: classes, preprocessing, exit thresholds, and shape and
meaning of every input and output. Models take uint8 frames; normalisation is inside. They are checked by onnx.checker.
With --format jax, as programs of JAX for --platforms, which adafocus_jax.export.load(OUT) runs without Flax.

By default each stage of inference is a model: glance (frames to features and the first exits), choose (features to
frames and boxes) and look (patches to the exits behind), so that the caller can stop at an exit, by the stored
thresholds. --whole writes one model from all frames to the logits of all exits instead. The leading axis is free unless
--rows fixes it."""

_EPILOG = """\
examples:
  adafocus export runs/mine exported/
  adafocus export runs/mine exported/ --rows 1 8
  adafocus export runs/mine exported/ --whole
  adafocus export runs/mine exported/ --format jax --platforms cpu,cuda,tpu"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of this command."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    add = parser.add_argument
    add("checkpoint", metavar="CHECKPOINT", help="workdir of a training run, or a folder of checkpoints")
    add("out", metavar="OUT", help="folder to make")
    add("--format", choices=("onnx", "jax"), default="onnx", help="(default %(default)s)")
    add("--which", choices=("best", "latest"), default="best", help="which checkpoint (default %(default)s)")
    add("--whole", action="store_true", help="one model without early exit")
    text = "lengths of the leading axis, a model for each (default: one model for any length; of JAX 1 8)"
    add("--platforms", metavar="NAMES", help="with --format jax: of cpu,cuda,tpu (default: cpu)")
    add("--rows", type=at_least(1), nargs="+", default=(), metavar="N", help=text)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Exports, prints a line per file, and returns the manifest."""
    given: dict[str, Any] = {"which": args.which}
    if args.format == "jax":
        if args.whole:
            raise UserError("--whole is for --format onnx: drop it")
        given |= {"rows": args.rows} if args.rows else {}
        given |= {"platforms": args.platforms.split(",")} if args.platforms else {}
        manifest = export_jax(args.checkpoint, args.out, **given)
    elif args.platforms:
        raise UserError("--platforms is for --format jax: ONNX models run anywhere")
    else:
        manifest = export_onnx(args.checkpoint, args.out, whole=args.whole, rows=args.rows, **given)
    for name, file in manifest["files" if args.format == "onnx" else "stages"].items():
        inputs, outputs = (", ".join(file[key]) for key in ("inputs", "outputs"))
        print(f"{args.out}/{name}: {inputs} -> {outputs}")
    return manifest

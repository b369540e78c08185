"""``adafocus convert``: a PyTorch checkpoint becomes a workdir, or back; or a run's settings are changed."""

from __future__ import annotations

import argparse
from typing import Any

from adafocus_jax.cli.model_arguments import add_set_argument, model_arguments
from adafocus_jax.config.edit import edit_config
from adafocus_jax.config.pytorch import from_pytorch, to_pytorch
from adafocus_jax.errors import UserError
from adafocus_jax.models import MODELS

_DESCRIPTION = """\
Converts a PyTorch checkpoint (.pth, .pth.tar, .pyth, .safetensors) into a workdir for train, evaluate and predict.

CHECKPOINT is of the authors' release; or, with --part, of an encoder alone (torchvision, timm, TSM, SlowFast), and the
rest of the model comes from --base or is initialised. Every name and shape has to fit; code in the file is not run. An
X3D encoder brings its classifier along, for all heads of that encoder, the last layer only if the numbers of classes
agree. The patch size leaves no trace in a checkpoint: give the one it was trained with by --set.
--to-torch goes the other way: CHECKPOINT is a workdir, OUT a .pth.tar for the authors' code.

Without OUT, --set changes settings of the run in the workdir CHECKPOINT. (Its files carry checksums, so that an edit
by hand counts as damage.)"""

_EPILOG = """\
examples:
  adafocus convert actnet_p96.pth.tar converted/ --model uni_adafocus --set patch_size=96
  adafocus convert mobilenet_v2.pth glance/ --model uni_adafocus --num-classes 200 --part global_encoder
  adafocus convert resnet50.safetensors start/ --base glance/ --part local_encoder
  adafocus convert x3d_s.pyth glance/ --model uni_adafocus_x3d --num-classes 400 --part global_encoder
  adafocus convert runs/mine mine.pth.tar --to-torch
  adafocus convert runs/mine --set data.dir=/new/records"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of this command."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    add = parser.add_argument
    add("checkpoint", metavar="CHECKPOINT", help="PyTorch file; with --to-torch a workdir")
    text = "workdir to make; with --to-torch a file; without it the settings of a run are changed"
    add("out", metavar="OUT", nargs="?", help=text)
    add("--model", metavar="NAME", help=f"one of {', '.join(MODELS)}")
    add("--num-classes", type=int, metavar="K", help="(default: those of the checkpoint's classifier)")
    add(
        "--classes",
        metavar="FILE",
        help="class names, one per line, in the order of the data (default: class 0, …)",
    )
    add_set_argument(parser)
    add("--part", metavar="PART", help="the encoder in CHECKPOINT: global_encoder, local_encoder or encoder")
    add("--base", metavar="DIR", help="with --part: workdir that the rest of the model comes from")
    add("--to-torch", action="store_true", help="convert a workdir to a PyTorch checkpoint")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Converts, prints a summary, and returns it."""
    if args.out is None:
        return _edit(args)
    same = {
        "model": args.model,
        "arguments": model_arguments(args),
        "num_classes": args.num_classes,
        "classes": args.classes,
    }
    if args.to_torch and (args.part or args.base):
        raise UserError("`to_torch` converts whole models: drop `part` and `base`")
    if args.to_torch:
        figures = to_pytorch(args.checkpoint, args.out, **same)
    else:
        figures = from_pytorch(args.checkpoint, args.out, part=args.part, base=args.base, **same)
    print(
        f"{args.out}: {figures['model']}, {figures['num_classes']} classes, "
        f"{figures['parameters'] / 1e6:.1f} M parameters"
    )
    return figures


def _edit(args: argparse.Namespace) -> dict[str, Any]:
    others = (args.model, args.num_classes, args.classes, args.part, args.base, args.to_torch or None)
    if not args.set or any(other is not None for other in others):
        raise UserError(
            "OUT is missing (without it only --set KEY=VALUE may be given, which changes a run's settings)"
        )
    changes = edit_config(args.checkpoint, args.set)
    changed = " ".join(f"{key}={value}" for key, value in changes.items())
    print(f"{args.checkpoint}: {changed or 'nothing changes'}")
    return changes

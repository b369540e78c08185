"""``adafocus convert``: a PyTorch checkpoint becomes one of ours, or ours one of PyTorch's."""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from adafocus_jax.checkpoint import FOLDER, Checkpoints, LoadedCheckpoint, load_checkpoint
from adafocus_jax.checkpoint.convert import convert_state_dict, count_classes, to_state_dict
from adafocus_jax.checkpoint.torch_files import read_state_dict, write_state_dict
from adafocus_jax.cli.model_arguments import add_set_argument, model_arguments, set_model_arguments
from adafocus_jax.config import base_config, for_classes, make_model
from adafocus_jax.data.datasets.classes import read_classes
from adafocus_jax.errors import UserError
from adafocus_jax.models import MODELS, init_variables

_DESCRIPTION = """\
Turns a PyTorch checkpoint (.pth, .pth.tar, .pyth, .safetensors) into one that train, evaluate and predict take.

CHECKPOINT is of the authors' release; or, with --part, of an encoder alone (torchvision, timm, TSM, SlowFast), and the
rest of the model comes from --base or is initialised anew. Every name and shape has to fit; no code in it is run. Of
X3D the classifier comes along, for all heads of its encoder, the last layer only where the numbers of classes agree.
The patch size leaves no trace in such a file: give the one that it was trained with by --set.
--to-torch goes the other way: CHECKPOINT is a workdir of ours, OUT a .pth.tar for the authors' code."""

_EPILOG = """\
examples:
  adafocus convert actnet_p96.pth.tar converted/ --model uni_adafocus --set patch_size=96
  adafocus convert mobilenet_v2.pth glance/ --model uni_adafocus --num-classes 200 --part global_encoder
  adafocus convert resnet50.safetensors start/ --base glance/ --part local_encoder
  adafocus convert x3d_s.pyth glance/ --model uni_adafocus_x3d --num-classes 400 --part global_encoder
  adafocus convert runs/mine mine.pth.tar --to-torch"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of this command."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    add = parser.add_argument
    add("checkpoint", metavar="CHECKPOINT", help="file of PyTorch; with --to-torch a workdir")
    add("out", metavar="OUT", help="workdir to make; with --to-torch a file")
    add("--model", metavar="NAME", help=f"one of {', '.join(MODELS)}")
    add("--num-classes", type=int, metavar="K", help="(default: what the checkpoint's classifier has)")
    add(
        "--classes",
        metavar="FILE",
        help="class names, one per line, as the data have them (default: class 0, …)",
    )
    add_set_argument(parser)
    add(
        "--part",
        metavar="PART",
        help="the encoder that CHECKPOINT is of: global_encoder, local_encoder or encoder",
    )
    add("--base", metavar="DIR", help="with --part: checkpoint of ours that the rest of the model comes from")
    add("--to-torch", action="store_true", help="from ours to PyTorch's")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Converts, says what came out, and returns it."""
    out = Path(args.out)
    if out.exists():
        raise UserError(f"{out} exists already: take another name, or remove it")
    figures = _to_torch(args, out) if args.to_torch else _from_torch(args, out)
    print(
        f"{out}: {figures['model']}, {figures['num_classes']} classes, {figures['parameters'] / 1e6:.1f} M parameters"
    )
    return figures


def _from_torch(args: argparse.Namespace, out: Path) -> dict[str, Any]:
    if args.base and not args.part:
        raise UserError("--base is what --part completes: give --part, or leave --base out")
    state_dict = read_state_dict(args.checkpoint)
    base = load_checkpoint(args.base) if args.base else None
    config = _settings(args, base) if base else _fresh_settings(args, count_classes(state_dict))
    model = make_model(config)
    variables = convert_state_dict(state_dict, model, args.part)
    if args.part:
        rest = (
            base.variables if base else jax.device_get(init_variables(model, jax.random.key(config["seed"])))
        )
        variables = unflatten_dict(flatten_dict(dict(rest)) | flatten_dict(variables))
    _write_workdir(out, config, variables)
    return _figures(config, variables)


def _to_torch(args: argparse.Namespace, out: Path) -> dict[str, Any]:
    loaded = load_checkpoint(args.checkpoint)
    config = _settings(args, loaded)
    tensors = to_state_dict(loaded.variables, make_model(config))
    out.parent.mkdir(parents=True, exist_ok=True)
    write_state_dict(out, tensors)
    return _figures(config, loaded.variables)


def _figures(config: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
    count = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    return {"model": config["model"]["name"], "num_classes": len(config["classes"]), "parameters": count}


def _fresh_settings(args: argparse.Namespace, found_classes: int | None) -> dict[str, Any]:
    """The configuration of a run that would have made this checkpoint, as far as it is known."""
    if args.model not in MODELS:
        given = f"unknown model {args.model!r}" if args.model else "which model is it? give --model"
        raise UserError(f"{given}: choose one of {', '.join(MODELS)}")
    config = base_config(args.model)
    set_model_arguments(config, model_arguments(args))
    return for_classes(config.to_dict(), _classes(args, None if args.part else found_classes))


def _classes(args: argparse.Namespace, found: int | None) -> list[str]:
    names = list(read_classes(args.classes)) if args.classes else None
    number = args.num_classes or (len(names) if names else found)
    if number is None:
        raise UserError(
            "how many classes has the model? an encoder does not tell: give --num-classes or --classes"
        )
    if names and len(names) != number:
        raise UserError(f"--classes {args.classes} names {len(names)} classes, --num-classes says {number}")
    return names or [f"class {k}" for k in range(number)]


def _settings(args: argparse.Namespace, loaded: LoadedCheckpoint) -> dict[str, Any]:
    """The configuration of a checkpoint of ours, after what the command line says has been checked against it."""
    config = loaded.config
    said = model_arguments(args) | {"name": args.model, "num_classes": args.num_classes}
    for name, value in said.items():
        has = config["model"].get(name)
        if value is not None and has != value:
            raise UserError(f"the checkpoint's model has {name} {has}, the command line says {value}")
    if args.classes and list(read_classes(args.classes)) != list(config["classes"]):
        raise UserError(f"the classes of {args.classes} are not those of the checkpoint")
    return config


def _write_workdir(out: Path, config: dict[str, Any], variables: dict[str, Any]) -> None:
    """Under another name first, so that ``out`` is whole or not there."""
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        with Checkpoints(temporary / FOLDER, config) as checkpoints:
            checkpoints.save(0, {"step": np.zeros((), np.int32), **variables})
        os.replace(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)

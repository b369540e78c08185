"""PyTorch checkpoints to workdirs and back: the arrays by ``checkpoint.convert``, and the configuration around them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from adafocus_jax.checkpoint import FOLDER, Checkpoints, LoadedCheckpoint, load_checkpoint
from adafocus_jax.checkpoint.convert import convert_state_dict, count_classes, to_state_dict
from adafocus_jax.checkpoint.torch_files import read_state_dict, write_state_dict
from adafocus_jax.config.arguments import make_model
from adafocus_jax.config.base import base_config, set_model_arguments
from adafocus_jax.config.read import for_classes
from adafocus_jax.data.datasets.classes import read_classes
from adafocus_jax.errors import UserError
from adafocus_jax.io import StrPath, writing
from adafocus_jax.models import MODELS, init_variables


def from_pytorch(
    checkpoint: StrPath,
    out: StrPath,
    *,
    model: str | None = None,
    arguments: Mapping[str, Any] | None = None,
    num_classes: int | None = None,
    classes: str | Path | None = None,
    part: str | None = None,
    base: StrPath | None = None,
) -> dict[str, Any]:
    """Makes a workdir, which train, evaluate and predict take, of a PyTorch checkpoint.

    Args:
      checkpoint: ``.pth``, ``.pth.tar``, ``.pyth`` or ``.safetensors``.
      out: the workdir to make.
      model: a key of ``MODELS``; with ``base`` it may be None.
      arguments: of the model.
      num_classes: None: as many as the checkpoint's classifier or the class file has.
      classes: file of class names, one per line; None: "class 0", "class 1", ….
      part: the encoder that the checkpoint is of; see ``convert_state_dict``. The rest of the model is initialised.
      base: with ``part``: a checkpoint of this package from which the rest of the model is taken instead.

    Returns:
      ``model``, ``num_classes`` and ``parameters``, their number.

    Raises:
      UserError: ``out`` exists, a file is damaged, a name or shape does not fit, or the arguments contradict ``base``.
    """
    _require_new(out)
    if base and not part:
        raise UserError("`base` is what `part` completes: give `part`, or leave `base` out")
    state_dict = read_state_dict(checkpoint)
    loaded = load_checkpoint(base) if base else None
    if loaded:
        require_settings(loaded, model, arguments, num_classes, classes)
        config = loaded.config
    else:
        found = None if part else count_classes(state_dict)
        config = for_classes(_base_settings(model, arguments), _class_names(classes, num_classes, found))
    made = make_model(config)
    variables = convert_state_dict(state_dict, made, part)
    if part:
        rest = loaded.variables if loaded else _initial_variables(made, config["seed"])
        # Empty nodes are the statistics of a model without norms.
        rest = flatten_dict(dict(rest), keep_empty_nodes=True)
        variables = unflatten_dict(rest | flatten_dict(variables))
    with writing(out) as partial, Checkpoints(partial / FOLDER, config) as checkpoints:
        checkpoints.save(0, {"step": np.zeros((), np.int32), **variables})
    return _summary(config, variables)


def to_pytorch(
    checkpoint: StrPath,
    out: StrPath,
    *,
    model: str | None = None,
    arguments: Mapping[str, Any] | None = None,
    num_classes: int | None = None,
    classes: str | Path | None = None,
) -> dict[str, Any]:
    """Writes a checkpoint of this package as a ``.pth.tar`` that the authors' code loads.

    Args:
      checkpoint: a workdir.
      out: the file to write.
      model: if given, this and the following must be those of the checkpoint.
      arguments: of the model.
      num_classes: of the model.
      classes: file of class names.

    Returns:
      As ``from_pytorch``.

    Raises:
      UserError: ``out`` exists, PyTorch is not installed, or an argument contradicts the checkpoint.
    """
    _require_new(out)
    loaded = load_checkpoint(checkpoint)
    require_settings(loaded, model, arguments, num_classes, classes)
    write_state_dict(out, to_state_dict(loaded.variables, make_model(loaded.config)))
    return _summary(loaded.config, loaded.variables)


def require_settings(
    loaded: LoadedCheckpoint,
    model: str | None,
    arguments: Mapping[str, Any] | None,
    num_classes: int | None,
    classes: str | Path | None,
) -> None:
    """Raises UserError where an argument that is given is not that of the checkpoint."""
    given = {**(arguments or {}), "name": model, "num_classes": num_classes}
    for name, value in given.items():
        actual = loaded.config["model"].get(name)
        if value is not None and actual != value:
            raise UserError(f"the checkpoint's model has {name} {actual}, not {value}: leave it out")
    if classes and list(read_classes(classes)) != list(loaded.config["classes"]):
        raise UserError(f"the classes of {classes} are not those of the checkpoint")


def _require_new(out: StrPath) -> None:
    if Path(out).exists():
        raise UserError(f"{out} exists already: take another name, or remove it")


def _base_settings(model: str | None, arguments: Mapping[str, Any] | None) -> dict[str, Any]:
    """The configuration of a run that would have made the checkpoint, as far as it is known."""
    if model not in MODELS:
        problem = f"unknown model {model!r}" if model else "which model is it? give `model`"
        raise UserError(f"{problem}: choose one of {', '.join(MODELS)}")
    config = base_config(model)
    set_model_arguments(config, arguments or {})
    return config.to_dict()


def _class_names(file: str | Path | None, num_classes: int | None, found: int | None) -> list[str]:
    names = list(read_classes(file)) if file else None
    number = num_classes or (len(names) if names else found)
    if number is None:
        raise UserError(
            "how many classes has the model? an encoder does not tell: give `num_classes` or `classes`"
        )
    if names and len(names) != number:
        raise UserError(f"classes={file} names {len(names)} classes, num_classes={number}: give one of them")
    return names or [f"class {k}" for k in range(number)]


def _initial_variables(model: Any, seed: int) -> dict[str, Any]:
    return dict(jax.device_get(init_variables(model, jax.random.key(seed))))


def _summary(config: Mapping[str, Any], variables: Mapping[str, Any]) -> dict[str, Any]:
    count = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    return {"model": config["model"]["name"], "num_classes": len(config["classes"]), "parameters": count}

"""A whole training run from settings: what ``adafocus train`` does, and a script may."""

from __future__ import annotations

import hashlib
import logging
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from adafocus_jax.config.arguments import (
    batch_shapes,
    clip_spec,
    loss_function,
    make_model,
    open_split,
    optimizer_options,
    train_options,
)
from adafocus_jax.config.base import free_keys
from adafocus_jax.config.complete import complete
from adafocus_jax.config.read import for_classes
from adafocus_jax.data.batches.clips import ClipSpec, warn_of_flips
from adafocus_jax.data.batches.pipeline import train_batches
from adafocus_jax.data.batches.sources import Source
from adafocus_jax.data.batches.transforms import make_transforms
from adafocus_jax.errors import UserError
from adafocus_jax.evaluate.predict import Predictions
from adafocus_jax.evaluate.validation import validation_evaluator
from adafocus_jax.io import is_remote
from adafocus_jax.models import VideoModel
from adafocus_jax.train import Evaluator, TrainResult, initialize_from, train
from adafocus_jax.train.starts import describe_start, differences

log = logging.getLogger(__name__)

Draw = Callable[[Source, ClipSpec, Predictions, int], Mapping[str, np.ndarray]]
"""From held-out videos, how they are cut, what was predicted and a count to pictures by name, RGB uint8."""
_READING = ("num_threads", "on_bad_record", "max_bad_frac")


def run_training(
    settings: Mapping[str, Any],
    workdir: str | os.PathLike[str],
    *,
    profile: tuple[int, int] | None = None,
    draw: Draw | None = None,
    start_over: bool = False,
    repeats: str | os.PathLike[str] | None = None,
) -> TrainResult:
    """Trains the model of ``settings`` on their data, or resumes the run in ``workdir``; all processes call it alike.

    Args:
      settings: of ``load_config``.
      workdir: a folder that all machines see.
      profile: first step and number of steps to trace.
      draw: makes pictures of ``train.eval_pictures`` held-out videos at every evaluation.
      start_over: where every checkpoint in ``workdir`` is damaged, move that run aside and begin a new one.
      repeats: workdir of the run that this one is to repeat: a line in the log for whatever is not the same now.

    Raises:
      UserError: see ``train``; or there are no data, or the classes of the two splits differ.
      TrainingDivergedError: a loss or gradient is not finite.
    """
    if is_remote(str(workdir)):
        raise UserError(
            f"workdir={workdir} is an address: give a folder, which all machines see (a mounted bucket, NFS)"
        )
    data = settings["data"]
    source = open_split(data, data["train_split"])
    settings = for_classes(settings, source.classes, source.traits)
    model = make_model(settings)
    options = replace(train_options(settings, len(source)), profile=profile)
    spec = clip_spec(settings, model)
    warn_of_flips(spec, source.traits, source.classes)
    transforms = make_transforms(data["transforms"])

    def batches(start_step: int) -> Iterable[Mapping[str, np.ndarray]]:
        return train_batches(
            source,
            spec,
            batch_size=options.batch_size,
            seed=options.seed,
            num_steps=options.num_steps,
            start_step=start_step,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
            num_workers=data["num_workers"],
            transforms=transforms,
            **{key: data[key] for key in _READING},
        )

    about = {
        "data": _identity(data, source),
        "plugins": {name: _file_digest(name) for name in settings["plugins"]},
    }
    if repeats is not None and jax.process_index() == 0:
        for line in differences(repeats, describe_start() | about):
            log.warning("not as in the run that is repeated: %s", line)
    other = settings["init"]["checkpoint"]
    return train(
        model,
        batches,
        workdir=workdir,
        options=options,
        optimizer=optimizer_options(settings),
        loss=loss_function(settings),
        batch_shapes=batch_shapes(spec, options.batch_size),
        config=settings,
        free_keys=free_keys(settings),
        complete=complete,
        evaluators=_evaluators(settings, model, spec, draw),
        initialize=partial(initialize_from, other, model, settings["classes"]) if other else None,
        start_over=start_over,
        about=about,
    )


def _identity(data: Mapping[str, Any], source: Source) -> dict[str, Any]:
    """Which videos a run trains on, wherever they lie."""
    fingerprint = getattr(source, "fingerprint", "")  # sources of plugins need not have one
    return {"split": data["train_split"], "videos": len(source), "fingerprint": fingerprint}


def _file_digest(module: str) -> str:
    """SHA-256 of a plugin's file; empty where it has none."""
    file = getattr(sys.modules.get(module), "__file__", None)
    return hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else ""


def _evaluators(
    settings: Mapping[str, Any], model: VideoModel, spec: ClipSpec, draw: Draw | None
) -> list[Evaluator]:
    """That of the validation split; none where the data has no such split."""
    data, options = settings["data"], settings["train"]
    try:
        held_out = open_split(data, data["val_split"])
    except UserError:
        return []
    if held_out.classes != tuple(settings["classes"]):
        raise UserError(
            f"split {data['val_split']} has other classes than {data['train_split']}: prepare both together"
        )
    count = options["eval_pictures"]
    return [
        validation_evaluator(
            model,
            held_out,
            spec,
            batch_size=options["batch_size"],
            every=options["eval_every"],
            evaluators=options["evaluators"],
            draw=(lambda found: draw(held_out, spec, found, count)) if draw and count else None,
            reading={key: data[key] for key in _READING},
        )
    ]

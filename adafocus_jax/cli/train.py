"""``adafocus train``: a config file and records, or videos, become a trained model."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from adafocus_jax.checkpoint import FOLDER
from adafocus_jax.cli.loading import open_split, round_up_to_devices
from adafocus_jax.config import (
    FREE_KEYS,
    clip_spec,
    for_classes,
    load_config,
    loss_function,
    make_model,
    optimizer_options,
    records_dir,
    train_options,
)
from adafocus_jax.data.clips import warn_of_flips
from adafocus_jax.data.pipeline import ClipSpec, eval_batches, train_batches
from adafocus_jax.errors import UserError
from adafocus_jax.evaluate.evaluators import classification
from adafocus_jax.evaluate.predict import make_predict_function, predict_split
from adafocus_jax.models import VideoModel
from adafocus_jax.train import TrainingDivergedError, TrainOptions, train
from adafocus_jax.types import VideoBatch

_DESCRIPTION = """\
Trains the model of a config file on prepared records, or on a folder of videos as it is, on all local devices.

Any setting is changed by --config.SETTING=VALUE. Started again with the same --workdir, training goes on where it
stopped. The workdir gets checkpoints/ (the latest and the best), metrics.jsonl and tensorboard/. SIGTERM and Ctrl-C
save a checkpoint first; the exit status is then 143 or 130, on which a scheduler may start the same command again."""

_EPILOG = """\
examples:
  adafocus train --config configs/demo.py --data records/ --workdir runs/demo
  adafocus train --config configs/custom.py:tiny --data records/ --workdir runs/tiny --config.optimizer.lr=0.1"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of this command; ``--config.SETTING=VALUE`` arrive as ``settings``."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    add = parser.add_argument
    add(
        "--config",
        required=True,
        metavar="FILE[:VARIANT]",
        help="config file; --config.SETTING=VALUE changes one",
    )
    add(
        "--workdir", required=True, metavar="DIR", help="where checkpoints and logs go; resumes what is there"
    )
    add(
        "--data",
        metavar="DIR",
        help="records of adafocus prepare, or class folders of videos (short for --config.data.dir=DIR)",
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Trains; returns the figures of the last evaluation."""
    settings = load_config(
        args.config, [*args.settings, *([f"--config.data.dir={args.data}"] if args.data else [])]
    )
    data = settings["data"]
    source = open_split(data, data["train_split"], records_dir(settings))
    settings = for_classes(settings, source.classes)
    model, options = make_model(settings), train_options(settings, len(source))
    spec = clip_spec(settings, model)
    warn_of_flips(spec, source.traits)
    reading = {key: data[key] for key in ("num_workers", "num_threads", "on_bad_record", "max_bad_frac")}

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
            **reading,
        )

    try:
        result = train(
            model,
            batches,
            workdir=args.workdir,
            options=options,
            optimizer=optimizer_options(settings),
            loss=loss_function(settings),
            batch_shapes=_batch_shapes(spec, options),
            config=settings,
            free_keys=FREE_KEYS,
            evaluate=_evaluation(model, spec, settings, options),
        )
    except TrainingDivergedError as error:
        raise SystemExit(f"adafocus train: {error}") from error
    Console().print(f"checkpoints in {args.workdir}/{FOLDER}", highlight=False, soft_wrap=True)
    if result.signal is not None:
        raise SystemExit(128 + result.signal)
    return {"step": result.step, **result.metrics}


def _batch_shapes(spec: ClipSpec, options: TrainOptions) -> VideoBatch:
    side, size = spec.image_size, options.batch_size

    def frames(count: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((size, count, side, side, 3), jnp.uint8)

    return VideoBatch(
        frames=frames(spec.num_candidates),
        glance=frames(spec.num_glance) if spec.num_glance else None,
        label=jax.ShapeDtypeStruct((size,), jnp.int32),
    )


def _evaluation(model: VideoModel, spec: ClipSpec, settings: Mapping[str, Any], options: TrainOptions) -> Any:
    """Scores the validation split, or None where the records have none."""
    data = settings["data"]
    try:
        held_out = open_split(data, data["val_split"])
    except UserError:
        return None
    if held_out.classes != tuple(settings["classes"]):
        raise UserError(
            f"split {data['val_split']} has other classes than {data['train_split']}: prepare both together"
        )
    size = round_up_to_devices(min(options.batch_size, len(held_out)))

    def evaluate(variables: dict[str, Any]) -> dict[str, float]:
        predict = make_predict_function(model, variables)
        reading = {key: data[key] for key in ("num_threads", "on_bad_record", "max_bad_frac")}
        found = eval_batches(held_out, spec, batch_size=size, **reading)
        return dict(classification(predict_split(predict, (VideoBatch(**batch) for batch in found))))

    return evaluate

"""``adafocus train``: a config file and records, or videos, become a trained model."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import numpy as np
from rich.console import Console

from adafocus_jax.checkpoint import FOLDER
from adafocus_jax.config import (
    FREE_KEYS,
    batch_shapes,
    clip_spec,
    for_classes,
    load_config,
    loss_function,
    make_model,
    optimizer_options,
    train_options,
)
from adafocus_jax.data.batches.clips import warn_of_flips
from adafocus_jax.data.batches.pipeline import ClipSpec, eval_batches, train_batches
from adafocus_jax.errors import UserError
from adafocus_jax.evaluate.evaluators import classification
from adafocus_jax.evaluate.gather import gather_predictions
from adafocus_jax.evaluate.predict import make_predict_function, predict_split
from adafocus_jax.io import is_remote
from adafocus_jax.models import VideoModel
from adafocus_jax.predict.loading import open_split, round_up_to_devices
from adafocus_jax.train import TrainingDivergedError, TrainOptions, initialize_from, train
from adafocus_jax.train.loop import Initialize
from adafocus_jax.train.processes import connect
from adafocus_jax.types import VideoBatch
from adafocus_jax.visualize.pictures import evaluation_pictures

_DESCRIPTION = """\
Trains the model of a config file on prepared records, or on a folder of videos as it is, on all devices.

Any setting is changed by --config.SETTING=VALUE. Started again with the same --workdir, training goes on where it
stopped. The workdir gets checkpoints/ (the latest and the best), metrics.jsonl and tensorboard/. SIGTERM and Ctrl-C
save a checkpoint first; the exit status is then 143 or 130, on which a scheduler may start the same command again.

On several machines the same command is started on each, with records and a workdir that all of them see. In Slurm
(srun, one task per GPU) and on TPU pods the processes find each other; elsewhere give --coordinator, --num-processes
and --process-id. Where one process dies the others end too; start all again, if you like in another number."""

_EPILOG = """\
examples:
  adafocus train --config configs/demo.py --data records/ --workdir runs/demo
  adafocus train --config configs/custom.py:tiny --data records/ --workdir runs/tiny --config.optimizer.lr=0.1
  adafocus train --config configs/custom.py --data records/ --workdir runs/tuned --init-from runs/mine \\
      --config.optimizer.freeze='global_encoder/.*' --config.optimizer.layer_factors='local_encoder/layer[12].*=0.1'"""


_SHORT = (
    (
        "--data",
        "DIR",
        "data.dir",
        "records of adafocus prepare, also gs://… or s3://…; or class folders of videos",
    ),
    ("--init-from", "DIR", "init.checkpoint", "workdir or converted checkpoint that a new run starts from"),
    (
        "--on-bad-record",
        "fail|skip",
        "data.on_bad_record",
        "at a video that does not read: stop, or take another",
    ),
    ("--on-nan", "stop|skip", "train.on_nan", "at a step that is not finite: stop, or drop its update"),
)
"""Flags that stand for a setting: flag, metavar, key, help."""
_PROCESSES = (
    ("--coordinator", str, "address of process 0, for several processes outside of Slurm and TPU pods"),
    ("--num-processes", int, "how many processes there are"),
    ("--process-id", int, "which one this is, from 0"),
)


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
        "--profile",
        type=_profile,
        metavar="START:STEPS",
        help="jax.profiler trace of STEPS steps from step START on, in WORKDIR/profile",
    )
    for flag, kind, text in _PROCESSES:
        add(flag, type=kind, metavar="HOST:PORT" if kind is str else "N", help=text)
    for flag, metavar, key, text in _SHORT:
        add(flag, metavar=metavar, help=f"{text} (short for --config.{key}={metavar})")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Trains; returns the figures of the last evaluation."""
    if is_remote(args.workdir):
        raise UserError(
            f"--workdir {args.workdir} is an address: give a folder, which all machines see (a mounted bucket, NFS)"
        )
    connect(args.coordinator, args.num_processes, args.process_id)
    settings = load_config(args.config, [*args.settings, *_short_settings(args)])
    data = settings["data"]
    source = open_split(data, data["train_split"])
    settings = for_classes(settings, source.classes)
    model = make_model(settings)
    options = replace(train_options(settings, len(source)), profile=args.profile)
    spec = clip_spec(settings, model)
    warn_of_flips(spec, source.traits, source.classes)
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
            batch_shapes=batch_shapes(spec, options.batch_size),
            config=settings,
            free_keys=FREE_KEYS,
            evaluate=_evaluation(model, spec, settings, options),
            initialize=_initialization(settings, model),
        )
    except TrainingDivergedError as error:
        raise SystemExit(f"adafocus train: {error}") from error
    if jax.process_index() == 0:
        Console().print(f"checkpoints in {args.workdir}/{FOLDER}", highlight=False, soft_wrap=True)
    if result.signal is not None:
        raise SystemExit(128 + result.signal)
    return {"step": result.step, **result.metrics}


def _profile(text: str) -> tuple[int, int]:
    start, _, steps = text.partition(":")
    try:
        if int(start) >= 1 and int(steps) >= 1:
            return int(start), int(steps)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is not START:STEPS, such as 10:5")


def _short_settings(args: argparse.Namespace) -> list[str]:
    given = ((key, getattr(args, flag[2:].replace("-", "_"))) for flag, _, key, _ in _SHORT)
    return [f"--config.{key}={value}" for key, value in given if value is not None]


def _initialization(settings: Mapping[str, Any], model: VideoModel) -> Initialize | None:
    directory = settings["init"]["checkpoint"]
    return partial(initialize_from, directory, model, settings["classes"]) if directory else None


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
    processes = jax.process_count()
    share = round_up_to_devices(-(-min(options.batch_size, len(held_out)) // processes))
    drawn = settings["train"]["eval_pictures"] if jax.process_index() == 0 else 0

    def evaluate(variables: dict[str, Any], progress: Callable[[int], None]) -> dict[str, float | np.ndarray]:
        predict = make_predict_function(model, variables)
        reading = {key: data[key] for key in ("num_threads", "on_bad_record", "max_bad_frac")}
        batches = eval_batches(
            held_out,
            spec,
            batch_size=share * processes,
            process_index=jax.process_index(),
            process_count=processes,
            **reading,
        )
        own = predict_split(predict, (VideoBatch(**batch) for batch in batches), progress)
        found = gather_predictions(own)
        figures: dict[str, float | np.ndarray] = dict(classification(found))
        if drawn:
            figures |= evaluation_pictures(held_out, spec, found, drawn)
        return figures

    return evaluate

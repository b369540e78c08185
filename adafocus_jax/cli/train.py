"""``adafocus train``: a config file and records, or videos, become a trained model."""

from __future__ import annotations

import argparse
from typing import Any

import jax
import numpy as np
from rich.console import Console

from adafocus_jax.checkpoint import FOLDER
from adafocus_jax.cli.flags import add_process_arguments
from adafocus_jax.config import load_config, read_run_config, run_training
from adafocus_jax.errors import UserError
from adafocus_jax.provenance import repeat_workdir
from adafocus_jax.signals import ending_on_signals
from adafocus_jax.train import TrainingDivergedError
from adafocus_jax.train.processes import connect

_DESCRIPTION = """\
Trains the model of a config file on prepared records, or on a folder of videos as it is, on all devices.

Any setting is changed by --config.SETTING=VALUE. Started again with the same --workdir, training resumes where it
stopped. The workdir gets checkpoints/ (the latest and the best), metrics.jsonl and tensorboard/. SIGTERM and Ctrl-C
save a checkpoint first; the exit status is then 143 or 130, on which a scheduler may start the same command again.

Records in s3:// may lie on another server than Amazon's: AWS_ENDPOINT_URL=https://HOST names it.

On several machines the same command is started on each, with records and a workdir that all of them see. In Slurm
(srun, one task per GPU) and on TPU pods the processes find each other; elsewhere give --coordinator, --num-processes
and --process-id. Where one process dies the others end too; start all again, if you like in another number.

WORKDIR/starts tells for every start the commit and what was changed on top, versions, devices, data, seed and command.
--from-run DIR repeats the run in DIR, with its config, seed and data, in a workdir of its own: the same parameters, bit
for bit, on the same devices with the same versions. What is not the same now is said in a line each."""

_EPILOG = """\
examples:
  adafocus train --config configs/demo.py --data records/ --workdir runs/demo
  adafocus train --config configs/custom.py:tiny --data records/ --workdir runs/tiny --config.optimizer.lr=0.1
  adafocus train --config configs/custom.py --data records/ --workdir runs/tuned --init-from runs/mine \\
      --config.optimizer.freeze='global_encoder/.*' --config.optimizer.layer_factors='local_encoder/layer[12].*=0.1'
  adafocus train --from-run runs/demo --workdir runs/demo-again"""

_SHORT = (
    ("--data", "DIR", "data.dir", "records of adafocus prepare, also gs://… or s3://…; or class folders of videos"),
    ("--init-from", "DIR", "init.checkpoint", "workdir or converted checkpoint that a new run starts from"),
    ("--on-bad-record", "fail|skip", "data.on_bad_record", "at a video that does not read: stop, or take another"),
    ("--on-nan", "stop|skip", "train.on_nan", "at a step that is not finite: stop, or drop its update"),
)  # fmt: skip
"""Flags that stand for a setting: flag, metavar, key, help."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of this command; ``--config.SETTING=VALUE`` arrive as ``settings``."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    add, file = parser.add_argument, "FILE[:VARIANT]"
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--config", metavar=file, help="config file; --config.SETTING=VALUE changes one")
    which.add_argument("--from-run", metavar="DIR", help="workdir of a run to repeat")
    text = "where checkpoints and logs go; resumes what is there (with --from-run DIR, by default DIR-again)"
    add("--workdir", metavar="DIR", help=text)
    text = "jax.profiler trace of STEPS steps from step START on, in WORKDIR/profile"
    add("--profile", type=_profile, metavar="START:STEPS", help=text)
    text = "where every checkpoint in the workdir is damaged, move that run aside and begin a new one"
    add("--start-over", action="store_true", help=text)
    add_process_arguments(parser)
    for flag, metavar, key, text in _SHORT:
        add(flag, metavar=metavar, help=f"{text} (short for --config.{key}={metavar})")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Trains; returns the figures of the last evaluation."""
    with ending_on_signals("adafocus train"):
        changes = [*args.settings, *_short_settings(args)]
        workdir = args.workdir or (repeat_workdir(args.from_run) if args.from_run else None)
        if workdir is None:
            raise UserError("no place for checkpoints and logs: give workdir=DIR")
        connect(args.coordinator, args.num_processes, args.process_id)
        settings = (read_run_config if args.from_run else load_config)(args.from_run or args.config, changes)
        options = {"profile": args.profile, "draw": _draw, "start_over": args.start_over}
        try:
            result = run_training(settings, workdir, repeats=args.from_run, **options)
        except TrainingDivergedError as error:
            raise SystemExit(f"adafocus train: {error}") from error
    if jax.process_index() == 0:
        Console().print(f"checkpoints in {workdir}/{FOLDER}", highlight=False, soft_wrap=True, markup=False)
    if result.signal is not None:
        raise SystemExit(128 + result.signal)
    return {"step": result.step, **result.metrics}


def _draw(*found: Any) -> dict[str, np.ndarray]:
    from adafocus_jax.visualize.pictures import evaluation_pictures  # matplotlib takes a fifth of the start

    return evaluation_pictures(*found)


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

"""``adafocus evaluate``: how good a checkpoint is, what early exit saves, and what the policies are worth."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import jax
import numpy as np

from adafocus_jax.cli import evaluation_tables as tables
from adafocus_jax.cli.flags import add_backend_arguments, add_process_arguments
from adafocus_jax.config import open_split
from adafocus_jax.evaluate.checkpoint import CROPS, XLA, CheckpointEvaluator
from adafocus_jax.evaluate.evaluators import METRICS
from adafocus_jax.evaluate.exits import store_policies
from adafocus_jax.io import progress, writing
from adafocus_jax.predict.loading import add_checkpoint_arguments, load_model
from adafocus_jax.train.processes import connect, require_same
from adafocus_jax.visualize.run import EVALUATION_FOLDER, PREDICTIONS_FILE, write_figures

_DESCRIPTION = """\
Scores a checkpoint on a split: top-1, top-5, mAP, and the metric that it was trained for at every exit.

--crops 3 averages the logits of three crops of each video (left, middle, right), at three times the cost.
--early-exit solves exit thresholds on another split by all criteria, stores them beside the checkpoint with the
split's name (predict uses them), and writes the curve of quality against cost, with random and fixed exits.
--controls also runs the model with random or centre patches and uniform frames, at the cost of the same networks.
--backend openvino evaluates with another backend as well as with XLA, and says how many predictions differ.

On several machines start it on each, as for adafocus train, or by adafocus launch: each scores its share of the videos,
the first one writes, and the figures are those of one process."""

_EPILOG = """\
examples:
  adafocus evaluate --checkpoint runs/mine
  adafocus evaluate --checkpoint runs/mine --early-exit --controls --out figures/ --json -
  adafocus evaluate --checkpoint runs/mine --backend openvino --precision bfloat16
  adafocus evaluate --checkpoint runs/k400 --crops 3"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of this command."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    add_checkpoint_arguments(parser)
    add = parser.add_argument
    add("--data", metavar="DIR", help="records, also remote (default: those it was trained on)")
    add("--split", default="val", help="what to score (default %(default)s); slices such as val[:50%%] work")
    add("--crops", type=int, choices=CROPS, default=1, help="per video (default %(default)s)")
    add("--batch-size", type=int, default=32, help="videos at a time, over all devices (default %(default)s)")
    add("--workers", type=int, default=0, help="decoding processes; 0: threads (default %(default)s)")
    add("--on-bad-record", choices=("fail", "skip"), default="fail", help="at a video that does not read: stop, or "
        "leave it out and say so (default %(default)s)")  # fmt: skip
    add_backend_arguments(parser, default=XLA)
    add_process_arguments(parser)
    add("--controls", action="store_true", help="also score random and centre patches and uniform frames")
    add("--early-exit", action="store_true", help="solve thresholds, store them, write the curve")
    add("--calibration-split", default="train", help="what thresholds are solved on (default %(default)s)")
    text = "of the exits and the curve (default: what the checkpoint was chosen by)"
    add("--metric", choices=METRICS, help=text)
    text = "where figures.json, predictions.npz and the curve go (default: evaluation/ in the workdir)"
    add("--out", metavar="DIR", help=text)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Scores, prints tables, writes files; returns the figures."""
    connect(args.coordinator, args.num_processes, args.process_id)
    first = jax.process_index() == 0
    trained = load_model(args.checkpoint, args.which)
    step = trained.checkpoint.step
    require_same(step, f"checkpoint={args.checkpoint} differs from host to host: put it on shared storage")
    metric = args.metric or trained.best_metric
    out = Path(args.out) if args.out else trained.folder.parent / EVALUATION_FOLDER
    evaluator = CheckpointEvaluator(
        trained.model,
        trained.checkpoint.variables,
        trained.spec,
        trained.classes,
        crops=args.crops,
        batch_size=args.batch_size,
        num_workers=args.workers,
        on_bad_record=args.on_bad_record,
        backend=args.backend,
        precision=args.precision,
        watch=progress,
    )
    source = open_split(trained.data, args.split, args.data)
    found = evaluator.predict(source, "evaluating")
    figures = {"split": args.split, "crops": args.crops, "num_candidates": trained.spec.num_candidates}
    figures |= {"videos": len(found.index), "step": step}
    figures |= evaluator.scores(found, metric, trained.checkpoint.config["train"]["evaluators"])
    if first:
        with writing(out / PREDICTIONS_FILE) as partial, open(partial, "wb") as file:
            np.savez_compressed(file, **vars(found))
        tables.print_scores(figures, metric)
    if args.backend != XLA:
        figures["compared_to_xla"] = evaluator.compared_to_xla(source, found)
        if first:
            tables.print_comparison(figures, args.backend, args.precision)
    if args.controls:
        figures["controls"] = evaluator.controls(source, figures)
        if first:
            tables.print_controls(figures["controls"])
    if args.early_exit:
        calibration = open_split(trained.data, args.calibration_split, args.data)
        curves, policies = evaluator.early_exit(found, calibration, args.calibration_split, metric)
        if first:
            tables.write_curves(out, curves, metric)
        points = {curve.name: (curve.gflops.tolist(), curve.metric.tolist()) for curve in curves}
        figures["early_exit"] = {name: {"gflops": x, metric: y} for name, (x, y) in points.items()}
        if policies and first:
            tables.print_line(f"exit thresholds stored in {store_policies(trained.folder, policies)}")
    if first:
        write_figures(out, figures)
        tables.print_line(f"written to {out}")
    return figures

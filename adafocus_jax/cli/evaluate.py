"""``adafocus evaluate``: how good a checkpoint is, what early exit saves, and what the policies are worth."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from adafocus_jax.data.batches.pipeline import eval_batches
from adafocus_jax.data.batches.sources import Source
from adafocus_jax.early_exit import ExitCurve, write_curve_csv
from adafocus_jax.errors import UserError
from adafocus_jax.evaluate.evaluators import METRICS, classification, per_exit
from adafocus_jax.evaluate.exits import solve_policies, store_policies, sweep_exits
from adafocus_jax.evaluate.predict import Predictions, average_crops, make_predict_function, predict_split
from adafocus_jax.flops import model_cost
from adafocus_jax.io import progress, writing
from adafocus_jax.models import VideoModel
from adafocus_jax.predict.loading import (
    TrainedModel,
    add_checkpoint_arguments,
    load_model,
    open_split,
    round_up_to_devices,
)
from adafocus_jax.types import VideoBatch
from adafocus_jax.visualize.curves import Series, accuracy_cost
from adafocus_jax.visualize.files import write_png
from adafocus_jax.visualize.run import EVALUATION_FOLDER, write_figures

CONTROLS = (("learned", "uniform"), ("random", "learned"), ("centre", "learned"), ("random", "uniform"))
"""(spatial, temporal) of the controls: the same networks, one policy or both replaced."""

CROPS = {1: (0.5,), 3: (0.5, 0.0, 1.0)}
"""Places of the test crops along the width, the middle first."""

_DESCRIPTION = """\
Scores a checkpoint on a split: top-1, top-5, mAP, and the metric that it was trained for at every exit.

--crops 3 averages the logits of three crops of each video (left, middle, right), at three times the cost.
--early-exit solves exit thresholds on another split by both criteria, stores them beside the checkpoint with the
split's name (predict uses them), and writes the curve of quality against cost, with random and fixed exits.
--controls also runs the model with random or centre patches and uniform frames, at the cost of the same networks."""

_EPILOG = """\
examples:
  adafocus evaluate --checkpoint runs/mine
  adafocus evaluate --checkpoint runs/mine --early-exit --controls --out figures/ --json -
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
    add("--on-bad-record", choices=("fail", "skip"), default="fail", help="stop at a video that does not read, or "
        "leave it out and say so (default %(default)s)")  # fmt: skip
    add("--controls", action="store_true", help="also score random and centre patches and uniform frames")
    add("--early-exit", action="store_true", help="solve thresholds, store them, write the curve")
    add("--calibration-split", default="train", help="what thresholds are solved on (default %(default)s)")
    add(
        "--metric",
        choices=METRICS,
        help="of the exits and the curve (default: what the checkpoint was chosen by)",
    )
    add(
        "--out",
        metavar="DIR",
        help="where figures.json, predictions.npz and the curve go (default: the checkpoint's folder)",
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Scores, prints tables, writes files; returns the figures."""
    trained = load_model(args)
    args.metric = args.metric or trained.best_metric
    out = Path(args.out) if args.out else trained.folder.parent / EVALUATION_FOLDER
    out.mkdir(parents=True, exist_ok=True)
    found = _predict(trained, trained.model, args, args.split, "evaluating")
    costs = args.crops * trained.exit_gflops
    figures: dict[str, Any] = {
        "split": args.split,
        "videos": len(found.index),
        "step": trained.checkpoint.step,
        "crops": args.crops,
    }
    figures |= dict(classification(found)) | {"exits": dict(per_exit(found, args.metric))}
    figures["gflops"] = float(costs[-1])
    figures["exit_gflops"] = costs.tolist()
    figures["num_candidates"] = trained.spec.num_candidates
    _save_predictions(out / "predictions.npz", found)
    _print_scores(args, figures)
    if args.controls:
        figures["controls"] = _score_controls(trained, args, figures)
    if args.early_exit:
        figures["early_exit"] = _early_exit(trained, args, found, out)
    write_figures(out, figures)
    Console().print(f"written to {out}", highlight=False, soft_wrap=True)
    return figures


def _predict(
    trained: TrainedModel, model: VideoModel, args: argparse.Namespace, split: str, what: str
) -> Predictions:
    source = open_split(trained.data, split, args.data)
    _check_classes(trained, source)
    predict = make_predict_function(model, trained.checkpoint.variables)
    size = round_up_to_devices(min(args.batch_size, len(source)))
    reading = {"batch_size": size, "num_workers": args.workers, "on_bad_record": args.on_bad_record}
    crops = []
    with progress(what, len(source) * args.crops) as advance:
        for place in CROPS[args.crops]:
            batches = eval_batches(source, replace(trained.spec, place=place), **reading)
            crops.append(predict_split(predict, (VideoBatch(**batch) for batch in batches), advance))
    return average_crops(crops)


def _check_classes(trained: TrainedModel, source: Source) -> None:
    if len(source.classes) > len(trained.classes):
        raise UserError(
            f"the data has {len(source.classes)} classes, the checkpoint {len(trained.classes)}: evaluate on the "
            "classes that it was trained on"
        )
    if source.classes != trained.classes[: len(source.classes)]:
        different = next(
            k
            for k, pair in enumerate(zip(source.classes, trained.classes, strict=False))
            if len(set(pair)) > 1
        )
        raise UserError(
            f"class {different} is {source.classes[different]!r} in the data and "
            f"{trained.classes[different]!r} in the checkpoint: prepare the data with the checkpoint's class file"
        )


def _save_predictions(path: Path, found: Predictions) -> None:
    with writing(path) as partial, open(partial, "wb") as file:
        np.savez_compressed(file, **vars(found))


def _print_scores(args: argparse.Namespace, figures: dict[str, Any]) -> None:
    table = Table(title=f"{args.split}: {figures['videos']} videos, checkpoint of step {figures['step']}")
    for name in ("top1", "top5", "mAP", "gflops"):
        table.add_column(name if name == "gflops" else f"{name} %", justify="right")
    table.add_row(
        *(
            f"{figures[name]:.3g}" if name == "gflops" else f"{figures[name]:.1f}"
            for name in ("top1", "top5", "mAP", "gflops")
        )
    )
    Console().print(table)
    Console().print(
        f"{args.metric} % by exit: " + " ".join(f"{value:.0f}" for value in figures["exits"].values()),
        highlight=False,
    )


def _score_controls(
    trained: TrainedModel, args: argparse.Namespace, learned: dict[str, Any]
) -> list[dict[str, Any]]:
    rows = [
        {
            "spatial": "learned",
            "temporal": "learned",
            "top1": learned["top1"],
            "mAP": learned["mAP"],
            "gflops": learned["gflops"],
        }
    ]
    for spatial, temporal in CONTROLS:
        model = trained.model.clone(spatial=spatial, temporal=temporal)
        scores = dict(
            classification(
                _predict(trained, model, args, args.split, f"{spatial} patches, {temporal} frames")
            )
        )
        cost = args.crops * float(model_cost(model).exit_gflops[-1])
        rows.append(
            {
                "spatial": spatial,
                "temporal": temporal,
                "top1": scores["top1"],
                "mAP": scores["mAP"],
                "gflops": cost,
            }
        )
    table = Table(
        "patches",
        "frames",
        "top-1 %",
        "mAP %",
        title="What the policies are worth: same encoders, same patches",
    )
    for row in rows:
        table.add_row(row["spatial"], row["temporal"], f"{row['top1']:.1f}", f"{row['mAP']:.1f}")
    Console().print(table)
    return rows


def _early_exit(
    trained: TrainedModel, args: argparse.Namespace, found: Predictions, out: Path
) -> dict[str, Any]:
    calibration = _predict(
        trained, trained.model, args, args.calibration_split, f"calibrating on {args.calibration_split}"
    )

    costs = args.crops * trained.exit_gflops

    def metric(logits: np.ndarray) -> float:
        return METRICS[args.metric](logits, found.labels)

    curves = sweep_exits(calibration, found, costs, metric)
    write_curve_csv(out / "early_exit.csv", curves, metric_name=args.metric)
    write_png(out / "early_exit.png", accuracy_cost(curve_series(curves), f"{args.metric} (%)"))
    # The scores of averaged crops are not those of the single crop that predict looks at.
    if args.crops == 1:
        path = store_policies(trained.folder, solve_policies(calibration, costs, args.calibration_split))
        Console().print(f"exit thresholds stored in {path}", highlight=False, soft_wrap=True)
    return {
        curve.name: {"gflops": curve.gflops.tolist(), args.metric: curve.metric.tolist()} for curve in curves
    }


def curve_series(curves: list[ExitCurve]) -> list[Series]:
    """The curves as the plot takes them."""
    return [Series(curve.name, curve.gflops, curve.metric) for curve in curves]

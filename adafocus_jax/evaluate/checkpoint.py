"""The evaluation of a checkpoint: scores, what early exit saves, and what the policies are worth."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from adafocus_jax.data.batches.pipeline import ClipSpec, eval_batches
from adafocus_jax.data.batches.sources import Source
from adafocus_jax.early_exit import ExitCurve
from adafocus_jax.engine import Engine
from adafocus_jax.errors import UserError
from adafocus_jax.evaluate.by_engine import engine_predict_function
from adafocus_jax.evaluate.evaluators import METRICS, per_exit, score
from adafocus_jax.evaluate.exits import solve_policies, sweep_exits
from adafocus_jax.evaluate.gather import gather_predictions
from adafocus_jax.evaluate.predict import (
    PredictFunction,
    Predictions,
    average_crops,
    make_predict_function,
    predict_split,
    round_up_to_devices,
)
from adafocus_jax.flops import model_cost
from adafocus_jax.models import VideoModel
from adafocus_jax.train.initialize import is_unnamed
from adafocus_jax.train.processes import naming_lost_processes
from adafocus_jax.types import VideoBatch

log = logging.getLogger(__name__)

CONTROLS = (("learned", "uniform"), ("random", "learned"), ("centre", "learned"), ("random", "uniform"))
"""(spatial, temporal) of the controls: the same networks, one policy or both replaced."""
XLA = "xla"
CROPS = {1: (0.5,), 3: (0.5, 0.0, 1.0)}
"""Places of the test crops along the width, the middle first."""
Watch = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""Shows progress, as ``io.progress`` does: from a description and a number of videos to what counts them."""


@dataclass(frozen=True)
class CheckpointEvaluator:
    """A trained model and how videos are run through it."""

    model: VideoModel
    variables: Mapping[str, Any]
    spec: ClipSpec
    """How clips are cut: that of the training run."""
    classes: Sequence[str]
    """K class names of the checkpoint."""
    crops: int = 1
    """Test crops per video, a key of ``CROPS``; their logits are averaged."""
    batch_size: int = 32
    """Videos at a time over all processes, rounded up to the devices."""
    num_workers: int = 0
    """Processes that decode; 0: threads of this one."""
    on_bad_record: str = "fail"
    """Or ``skip``."""
    backend: str = XLA
    """What runs the model; controls run by XLA."""
    precision: str = "float32"
    """Of the backend."""
    watch: Watch = lambda what, total: nullcontext(lambda count: None)

    def exit_gflops(self, model: VideoModel | None = None) -> np.ndarray:
        """``[E]`` cost of leaving at each exit, in giga multiply-adds, all crops together."""
        return self.crops * model_cost(model or self.model).exit_gflops

    @naming_lost_processes()
    def predict(self, source: Source, what: str, model: VideoModel | None = None) -> Predictions:
        """Predictions on all videos of ``source``; ``model``: a control in place of the model itself.

        Each process of a run predicts its share, and all of them get the whole.

        Raises:
          UserError: the classes of the data are not those of the checkpoint, or a video does not read.
          ProcessLostError: another process has died.
        """
        check_classes(source.classes, self.classes)
        predict = self._predict_function(model)
        index, count = jax.process_index(), jax.process_count()
        share = round_up_to_devices(-(-min(self.batch_size, len(source)) // count))
        size = share * count
        reading = {"num_workers": self.num_workers, "on_bad_record": self.on_bad_record}
        reading |= {"process_index": index, "process_count": count}
        starts = range(index * share, len(source), size)
        own = sum(min(share, len(source) - start) for start in starts)
        crops = []
        with self.watch(what, own * self.crops) as progress:
            for place in CROPS[self.crops]:
                spec = replace(self.spec, place=place)
                batches = eval_batches(source, spec, batch_size=size, **reading)  # type: ignore[arg-type]
                crops.append(predict_split(predict, (VideoBatch(**batch) for batch in batches), progress))
        return gather_predictions(average_crops(crops))

    def _predict_function(self, control: VideoModel | None) -> PredictFunction:
        if control is not None or self.backend == XLA:
            if self.precision != "float32" and control is None:
                raise UserError(f"precision={self.precision!r} needs backend='openvino'")
            return make_predict_function(control or self.model, self.variables)
        return engine_predict_function(
            Engine(self.model, self.variables, backend=self.backend, precision=self.precision)
        )

    def compared_to_xla(self, source: Source, found: Predictions) -> dict[str, Any]:
        """``changed``, the number of videos of ``found`` whose class is another than by XLA in float32; ``top1`` there.

        The largest difference of a logit, relative to the largest logit, is ``logit_error``.
        """
        reference = replace(self, backend=XLA, precision="float32").predict(source, "evaluating by XLA")
        changed = found.logits.argmax(axis=1) != reference.logits.argmax(axis=1)
        error = np.abs(found.exit_logits - reference.exit_logits).max() / np.abs(reference.exit_logits).max()
        top1 = METRICS["top1"](reference.logits, reference.labels)
        return {"changed": int(changed.sum()), "top1": float(top1), "logit_error": float(error)}

    def scores(
        self, predictions: Predictions, metric: str, evaluators: Sequence[str] = ("classification",)
    ) -> dict[str, Any]:
        """Numbers of the last exit, ``exits`` by ``metric``, and ``gflops``, in the form of ``figures.json``."""
        costs = self.exit_gflops()
        return {
            **score(predictions, dict.fromkeys(["classification", *evaluators])),
            "exits": dict(per_exit(predictions, metric)),
            "gflops": float(costs[-1]),
            "exit_gflops": costs.tolist(),
        }

    def controls(self, source: Source, learned: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Scores with policies replaced, at the cost of the same networks, below those of ``learned``."""
        rows = [{"spatial": "learned", "temporal": "learned"} | {key: learned[key] for key in _COMPARED}]
        for spatial, temporal in CONTROLS:
            model = self.model.clone(spatial=spatial, temporal=temporal)
            found = score(self.predict(source, f"{spatial} patches, {temporal} frames", model))
            found["gflops"] = float(self.exit_gflops(model)[-1])
            rows.append({"spatial": spatial, "temporal": temporal} | {key: found[key] for key in _COMPARED})
        return rows

    def early_exit(
        self, predictions: Predictions, calibration: Source, split: str, metric: str
    ) -> tuple[list[ExitCurve], Any]:
        """Curves of ``metric`` against cost on what was predicted, and the policies solved on ``calibration``.

        Policies are for one crop, which is what ``predict`` looks at; with more there are none.
        """
        solved_on, costs = self.predict(calibration, f"calibrating on {split}"), self.exit_gflops()

        def scored(logits: np.ndarray) -> float:
            return METRICS[metric](logits, predictions.labels)

        curves = sweep_exits(solved_on, predictions, costs, scored)
        return curves, solve_policies(solved_on, costs, split) if self.crops == 1 else ()


_COMPARED = ("top1", "mAP", "gflops")


def check_classes(data: Sequence[str], checkpoint: Sequence[str]) -> None:
    """Raises UserError unless a label means the same class in the data as in the checkpoint.

    The data may lack the last classes. Where one of them has no names, as after ``adafocus convert`` without
    ``--classes``, equal numbers are taken for equal classes, with a warning.
    """
    if list(data) == list(checkpoint[: len(data)]):
        return
    if len(data) == len(checkpoint) and (is_unnamed(data) or is_unnamed(checkpoint)):
        which = "checkpoint" if is_unnamed(checkpoint) else "data"
        log.warning(
            "the classes of the %s have no names: taken to be those of the %s, in their order (adafocus convert "
            "--classes FILE gives a checkpoint names)",
            *(which, "data" if which == "checkpoint" else "checkpoint"),
        )
        return
    if len(data) > len(checkpoint):
        raise UserError(
            f"the data has {len(data)} classes, the checkpoint {len(checkpoint)}: evaluate on the classes that it was "
            "trained on"
        )
    different = next(k for k, pair in enumerate(zip(data, checkpoint, strict=False)) if len(set(pair)) > 1)
    raise UserError(
        f"class {different} is {data[different]!r} in the data and {checkpoint[different]!r} in the checkpoint: "
        "prepare the data with the checkpoint's class file"
    )

"""What an evaluated run of the demo found, held against the truth of its videos."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from adafocus_jax.data.batches.single import Clip
from adafocus_jax.data.records.reader import RecordSource, open_records
from adafocus_jax.demo.score import PolicyScore, frames_by_colour, score_policy, source_frames
from adafocus_jax.demo.videos import DemoTask
from adafocus_jax.early_exit import choose_policy
from adafocus_jax.evaluate.exits import stored_policies
from adafocus_jax.evaluate.predict import Predictions
from adafocus_jax.predict.videos import video_prediction
from adafocus_jax.types import VideoPrediction
from adafocus_jax.visualize.run import EVALUATION_FOLDER


@dataclass(frozen=True)
class Outcome:
    """What the policies did on the held-out videos."""

    score: PolicyScore
    frames_by_colour: dict[str, float]
    """Colour of the figure to the share of the chosen frames that hold it, 0…1, over the videos of that colour."""
    shown: VideoPrediction
    """The first video that was got right, with its truth in ``extra``."""


def read_outcome(videos: Path, records: Path, workdir: Path, figures: Mapping[str, Any]) -> Outcome:
    """Scores the policies of a run against the truth.

    Args:
      videos: of ``write_videos``.
      records: of ``adafocus prepare``, made of them.
      workdir: of ``adafocus train`` on these.
      figures: of ``adafocus evaluate`` on it, which also left its predictions there.
    """
    truth = json.loads((videos / "truth.json").read_text())
    with np.load(workdir / EVALUATION_FOLDER / "predictions.npz") as archive:
        found = Predictions(**archive)
    source = open_records(records, "val")
    num_candidates = figures["num_candidates"]
    names, score = score_predictions(found, source, truth, num_candidates)
    right = found.logits.argmax(axis=1) == found.labels[:, 0]
    row = int(np.argmax(right))
    record = source[int(found.index[row])]
    at = source_frames(np.arange(num_candidates), num_candidates, len(record.frames))
    shown = video_prediction(
        names[row],
        source.classes,
        Clip(np.stack([record.frame(int(i)) for i in at]), record.times_sec[at], at, None),
        found,
        row,
        np.asarray(figures["exit_gflops"]),
        choose_policy(stored_policies(workdir / "checkpoints")),
    )
    shown.extra.update(truth_extra(truth[names[row]], source.classes, num_candidates))
    return Outcome(score, frames_by_colour(names, score), shown)


def score_predictions(
    found: Predictions, source: RecordSource, truth: Mapping[str, Any], num_candidates: int
) -> tuple[list[str], PolicyScore]:
    """Names ``[V]`` of the predicted videos of ``source``, and their score against ``truth``, of ``truth.json``."""
    names, side = [source[int(index)].name for index in found.index], DemoTask().size_px
    boxes = [truth[name]["boxes"] for name in names]
    scored = score_policy(
        found.boxes, found.frame_indices, boxes, num_candidates=num_candidates, frame_size=(side, side)
    )
    return names, scored


def truth_extra(truth: Mapping[str, Any], classes: Sequence[str], num_candidates: int) -> dict[str, object]:
    """``VideoPrediction.extra`` of a synthetic video: its class and the figure's box per candidate (NaN: not there)."""
    boxes = truth["boxes"]
    at = source_frames(np.arange(num_candidates), num_candidates, len(boxes))
    nowhere = [np.nan] * 4
    return {
        "true_class": classes[truth["label"]],
        "true_boxes": np.array([nowhere if boxes[i] is None else boxes[i] for i in at], np.float64),
    }

"""The demo's report: what was learned, how well, and pictures of where and when the model looked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from adafocus_jax.demo.score import PolicyScore, source_frames
from adafocus_jax.types import VideoPrediction
from adafocus_jax.visualize.curves import (
    Series,
    accuracy_cost,
    class_scores,
    temporal_weights,
    training_curves,
)
from adafocus_jax.visualize.frames import contact_sheet
from adafocus_jax.visualize.report import Headline, Picture, Report, Section, Table

PANELS = {
    "loss (nats)": ("loss/total", "loss/exits", "loss/temporal", "loss/spatial"),
    "top-1 accuracy (%)": ("top1",),
}
"""Metrics of the training log to draw, by axis."""


def demo_report(
    figures: Mapping[str, Any],
    score: PolicyScore,
    rows: Sequence[Mapping[str, float]],
    shown: VideoPrediction,
) -> Report:
    """Puts the page together.

    Args:
      figures: what ``adafocus evaluate --controls --early-exit`` returned.
      score: of the learned policy against the truth.
      rows: lines of metrics.jsonl.
      shown: a held-out video, with its truth in ``extra``.
    """
    chance = 100 / len(shown.classes)
    return Report(
        title="Uni-AdaFocus: where and when it looked",
        summary=(
            "A tiny model learned from made videos to find a small figure that is there in a quarter of the frames, "
            f"and to tell which of {len(shown.classes)} kinds it is. Nothing told it where or when the figure appears.",
            f"On {figures['videos']} held-out videos it names the right kind in {figures['top1']:.0f}% "
            f"(chance: {chance:.0f}%).",
        ),
        headlines=(
            Headline(f"{figures['top1']:.0f}%", "top-1 on held-out videos", f"chance {chance:.0f}%"),
            Headline(
                f"{score.learned.figure_covered:.0%}",
                "of the figure covered by the chosen patch",
                f"random patches of the same size {score.random.figure_covered:.0%}",
            ),
            Headline(
                f"{score.frames_with_figure:.0%}",
                "of the chosen frames hold the figure",
                f"uniform frames {score.frames_with_figure_uniform:.0%}",
            ),
        ),
        sections=(
            _look(shown),
            _policies(figures, score),
            _exits(figures),
            Section("Training", content=(_training(rows),)),
        ),
    )


def _look(shown: VideoPrediction) -> Section:
    truth = shown.extra.get("true_class", "unknown")
    return Section(
        "One held-out video",
        (f"Its true class is {truth}. The dashed boxes are the truth, which the model never sees.",),
        (
            Picture(
                contact_sheet(shown),
                "Candidate frames, the chosen ones, and the patches cut from them.",
                "Frames with boxes",
            ),
            Picture(
                temporal_weights(shown),
                "The temporal policy: where in the video the focus frames are drawn.",
                "Weights over time",
            ),
            Picture(
                class_scores(shown),
                "Class scores exit by exit, from the first glance frame to the last patch.",
                "Scores per exit",
            ),
        ),
    )


def _policies(figures: Mapping[str, Any], score: PolicyScore) -> Section:
    controls = Table(
        "Same networks, same number and size of patches, one policy or both replaced",
        ("patches", "frames", "top-1 %", "mAP %"),
        tuple(
            (row["spatial"], row["temporal"], f"{row['top1']:.1f}", f"{row['mAP']:.1f}")
            for row in figures["controls"]
        ),
    )
    where = Table(
        "Where the patches lie, over chosen frames that hold the figure",
        ("boxes", "figure covered %", "centre in patch %"),
        tuple(
            (name, f"{100 * box.figure_covered:.0f}", f"{100 * box.centre_in_patch:.0f}")
            for name, box in (
                ("learned", score.learned),
                ("random place", score.random),
                ("centre", score.centre),
            )
        ),
    )
    return Section("What the policies are worth", content=(controls, where))


def _exits(figures: Mapping[str, Any]) -> Section:
    names, values = list(figures["exits"]), list(figures["exits"].values())
    table = Table(
        "Top-1 of every exit",
        ("exit", "top-1 %"),
        tuple((n.split("_")[0], f"{v:.1f}") for n, v in zip(names, values, strict=True)),
    )
    curves = [Series(name, c["gflops"], c["top1"]) for name, c in figures["early_exit"].items()]
    picture = Picture(
        accuracy_cost(curves),
        "Easy videos leave after the glance, hard ones look on. Thresholds are solved on the training split.",
        "Accuracy against cost",
    )
    return Section("Early exit", content=(picture, table))


def _training(rows: Sequence[Mapping[str, float]]) -> Picture:
    return Picture(
        training_curves(rows, PANELS), "Loss terms and accuracy while training.", "Training curves"
    )


def truth_extra(truth: Mapping[str, Any], classes: Sequence[str], num_candidates: int) -> dict[str, object]:
    """``VideoPrediction.extra`` of a made video: its class, and the figure's box in each candidate (NaN: not there)."""
    boxes = truth["boxes"]
    at = source_frames(np.arange(num_candidates), num_candidates, len(boxes))
    nowhere = [np.nan] * 4
    return {
        "true_class": classes[truth["label"]],
        "true_boxes": np.array([nowhere if boxes[i] is None else boxes[i] for i in at], np.float64),
    }

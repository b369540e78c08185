"""The demo's report: what was learned, how well, and pictures of where and when the model looked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from adafocus_jax.demo.score import PolicyScore, source_frames
from adafocus_jax.flops import ModelCost
from adafocus_jax.types import VideoPrediction
from adafocus_jax.visualize.report import Headline, Report, Section, Table
from adafocus_jax.visualize.run import Run
from adafocus_jax.visualize.run_report import run_report
from adafocus_jax.visualize.sections import video_section


def demo_report(run: Run, cost: ModelCost, score: PolicyScore, shown: VideoPrediction) -> Report:
    """The report of the demo's run, and above it what only made videos can tell.

    Args:
      run: with figures of ``adafocus evaluate --controls --early-exit``.
      cost: of its model.
      score: of the learned policy against the truth.
      shown: a held-out video, with its truth in ``extra``.
    """
    any_run = run_report(run, cost, num_steps=run.config["train"]["steps"])
    assert run.figures is not None
    figures = run.figures
    chance = 100 / len(shown.classes)
    return replace(
        any_run,
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
            video_section(
                "One held-out video",
                shown,
                f"Its true class is {shown.extra['true_class']}. The dashed boxes are the truth, which the model never "
                "sees.",
            ),
            _truth(score),
            *any_run.sections,
        ),
    )


def _truth(score: PolicyScore) -> Section:
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
    return Section("Where it looked", content=(where,))


def truth_extra(truth: Mapping[str, Any], classes: Sequence[str], num_candidates: int) -> dict[str, object]:
    """``VideoPrediction.extra`` of a made video: its class, and the figure's box in each candidate (NaN: not there)."""
    boxes = truth["boxes"]
    at = source_frames(np.arange(num_candidates), num_candidates, len(boxes))
    nowhere = [np.nan] * 4
    return {
        "true_class": classes[truth["label"]],
        "true_boxes": np.array([nowhere if boxes[i] is None else boxes[i] for i in at], np.float64),
    }

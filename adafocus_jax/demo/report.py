"""The demo's report: what was learned, how well, and pictures of where and when the model looked."""

from __future__ import annotations

from dataclasses import replace

from adafocus_jax.demo.outcome import Outcome
from adafocus_jax.demo.score import PolicyScore
from adafocus_jax.demo.verdict import SEEDS, Verdict
from adafocus_jax.flops import ModelCost
from adafocus_jax.visualize.report import Headline, Report, Section, Table
from adafocus_jax.visualize.run import Run
from adafocus_jax.visualize.run_report import run_report
from adafocus_jax.visualize.sections import video_section


def demo_report(run: Run, cost: ModelCost, outcome: Outcome, verdict: Verdict, *, comparable: bool) -> Report:
    """The report of the demo's run, and above it what only synthetic videos can tell.

    Args:
      run: with figures of ``adafocus evaluate --controls --early-exit``.
      cost: of its model.
      outcome: of its policies.
      verdict: on the run.
      comparable: whether it was made and trained as the runs of other seeds in ``verdict``.
    """
    any_run = run_report(run, cost, num_steps=run.config["train"]["steps"])
    assert run.figures is not None
    figures, score, shown = run.figures, outcome.score, outcome.shown
    chance = 100 / len(shown.classes)
    return replace(
        any_run,
        title="Uni-AdaFocus: where and when it looked",
        summary=(
            "A tiny model is trained on synthetic videos to find a small figure that is there for a quarter of the "
            f"time, and to tell which of {len(shown.classes)} kinds it is. Nothing tells it where or when the figure "
            "appears.",
            f"On {figures['videos']} held-out videos it names the right kind in {figures['top1']:.0f}% "
            f"(chance: {chance:.0f}%). {verdict.sentence}",
            *(f"Look at this: {hint}." for hint in verdict.hints),
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
            Section("What it learned", content=(learned_table(verdict, outcome, comparable=comparable),)),
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


def learned_table(verdict: Verdict, outcome: Outcome, *, comparable: bool) -> Table:
    """What a run learned, beside chance and beside the runs of other seeds."""
    score = outcome.score
    chance = (
        f"{100 / len(outcome.shown.classes):.0f}%",
        f"{score.random.figure_covered:.0%} (random patches of that size)",
        f"{score.frames_with_figure_uniform:.0%} (uniform frames)",
        f"best: {verdict.control}",
    )
    rows = []
    for (spread, value), other in zip(verdict.figures, chance, strict=True):
        seeds = f"{spread.mean:.0f} ({spread.low:.0f}–{spread.high:.0f})"
        cells = (spread.name, f"{value:.0f}{spread.unit}", other, seeds)
        rows.append((*cells, spread.place(value)) if comparable else cells)
    columns = ("", "this run", "by chance", f"seeds {SEEDS}: mean (range)")
    return Table("What this run learned", (*columns, "this run is") if comparable else columns, tuple(rows))

"""The report of any run: what was trained, how it went, how good it is, what it costs, and what it looks at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from adafocus_jax.flops import ModelCost
from adafocus_jax.types import VideoPrediction
from adafocus_jax.visualize.curves import cost_unit
from adafocus_jax.visualize.report import Headline, Report, Section
from adafocus_jax.visualize.run import Run
from adafocus_jax.visualize.sections import (
    checkpoints_section,
    config_section,
    controls_table,
    cost_section,
    exits_section,
    training_section,
    video_section,
)


def run_report(
    run: Run,
    cost: ModelCost,
    *,
    num_steps: int | None,
    shown: Sequence[VideoPrediction] = (),
    why_none: str = "",
) -> Report:
    """Puts the page together.

    Args:
      run: what the workdir holds.
      cost: of its model.
      num_steps: of the whole run; None: not known.
      shown: held-out videos.
      why_none: why ``shown`` is empty, for the reader.
    """
    return Report(
        title=f"Run {run.workdir.name}",
        summary=tuple(_summary(run, num_steps)),
        headlines=tuple(_headlines(run, cost, num_steps)),
        sections=tuple(_sections(run, cost, shown, why_none)),
    )


def _summary(run: Run, num_steps: int | None) -> Iterator[str]:
    yield f"{run.config['model']['name']} on {len(run.config['classes'])} classes, from {run.workdir}."
    if run.last_logged:
        state = "All steps are done" if run.step == num_steps else "The run is not over, or was stopped"
        yield f"{state}; the last line was logged on {run.last_logged:%Y-%m-%d at %H:%M} UTC."


def _headlines(run: Run, cost: ModelCost, num_steps: int | None) -> Iterator[Headline]:
    metric = run.config["train"]["best_metric"]
    if run.best is not None:
        value = (run.checkpoints[run.best] or {})["score"]
        yield Headline(
            f"{value:.1f}%", f"{metric} of the best checkpoint", f"step {run.best}, held-out videos"
        )
    if num_steps:
        yield Headline(
            f"{run.step / num_steps:.0%}", "of the training done", f"step {run.step} of {num_steps}"
        )
    unit, (full,) = cost_unit(cost.exit_gflops[-1:])
    yield Headline(
        f"{full:.3g} {unit[0]}", "multiply-adds per video", f"{cost.params / 1e6:.3g} M parameters"
    )
    paces = [row for row in run.rows if "examples_per_sec" in row]
    if paces:
        note = f"{paces[-1]['data_wait_frac']:.0%} of the time waiting for data"
        yield Headline(f"{paces[-1]['examples_per_sec']:.3g}", "videos per second in training", note)


def _sections(
    run: Run, cost: ModelCost, shown: Sequence[VideoPrediction], why_none: str
) -> Iterator[Section]:
    yield checkpoints_section(run)
    if run.figures is None:
        told = f"Not measured yet. Run: adafocus evaluate --checkpoint {run.workdir} --early-exit --controls"
        yield Section("Early exit", (told,))
    else:
        yield exits_section(run.figures, run.config["model"])
        if "controls" in run.figures:
            yield Section("What the policies are worth", content=(controls_table(run.figures),))
    for video in shown:
        yield video_section(f"Held-out video {video.name}", video)
    if why_none:
        yield Section("Held-out videos", (why_none,))
    yield training_section(run.rows, policies="spatial" in run.config["model"])
    yield cost_section(cost)
    yield config_section(run.config)

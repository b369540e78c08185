"""The report of a run: training curves, evaluations, cost, and what the model looks at."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from adafocus_jax.config import clip_spec, make_model, open_split, train_options
from adafocus_jax.data.batches.pipeline import eval_batches
from adafocus_jax.early_exit import choose_policy
from adafocus_jax.errors import UserError
from adafocus_jax.evaluate.exits import stored_policies
from adafocus_jax.evaluate.predict import (
    Predictions,
    make_predict_function,
    predict_split,
    round_up_to_devices,
)
from adafocus_jax.flops import ModelCost, model_cost
from adafocus_jax.io import StrPath, progress
from adafocus_jax.predict.loading import load_model
from adafocus_jax.predict.videos import source_predictions
from adafocus_jax.types import VideoBatch, VideoPrediction
from adafocus_jax.visualize.curves import cost_unit
from adafocus_jax.visualize.gallery import validation_gallery
from adafocus_jax.visualize.report import Headline, Picture, Report, Section, write_report
from adafocus_jax.visualize.run import EVALUATION_FOLDER, PREDICTIONS_FILE, Run, read_run
from adafocus_jax.visualize.sections import (
    checkpoints_section,
    config_section,
    controls_table,
    cost_section,
    exits_section,
    training_section,
    video_section,
)

log = logging.getLogger(__name__)


def report_run(
    workdir: StrPath, out: StrPath | None = None, *, data: str | None = None, videos: int = 4
) -> dict[str, Any]:
    """Writes a report of the run in ``workdir``, which may be in progress, stopped or converted.

    Args:
      workdir: of ``train`` or ``from_pytorch``.
      out: the HTML file; None: ``report.html`` in the workdir.
      data: records to show videos of; None: those of the run.
      videos: held-out videos to show.

    Returns:
      ``report``, the path of the page; ``step`` and ``best_step`` of the run; ``videos``, how many are shown.

    Raises:
      UserError: ``workdir`` holds no run.
    """
    run = read_run(workdir)
    settings = run.config["data"] | ({"dir": data} if data else {})
    shown, why_none = _held_out(run.workdir, settings, videos) if videos > 0 else ([], "")
    page = run_report(
        run,
        model_cost(make_model(run.config)),
        num_steps=_num_steps(run.config, settings),
        shown=shown,
        why_none=why_none,
        gallery=_gallery(run, settings),
    )
    path = Path(out or run.workdir / "report.html").resolve()
    write_report(path, page)
    return {"report": str(path), "step": run.step, "best_step": run.best, "videos": len(shown)}


def run_report(
    run: Run,
    cost: ModelCost,
    *,
    num_steps: int | None,
    shown: Sequence[VideoPrediction] = (),
    why_none: str = "",
    gallery: np.ndarray | None = None,
) -> Report:
    """The report as sections of text, tables and pictures.

    Args:
      run: what the workdir holds.
      cost: of its model.
      num_steps: of the whole run; None: unknown.
      shown: held-out videos.
      why_none: shown instead, if ``shown`` is empty.
      gallery: of ``validation_gallery``.
    """
    return Report(
        title=f"Run {run.workdir.name}",
        summary=tuple(_summary(run, num_steps)),
        headlines=tuple(_headlines(run, cost, num_steps)),
        sections=tuple(_sections(run, cost, shown, why_none, gallery)),
    )


def _summary(run: Run, num_steps: int | None) -> Iterator[str]:
    yield f"{run.config['model']['name']} on {len(run.config['classes'])} classes, from {run.workdir}."
    if run.last_logged:
        state = "Training is complete" if run.step == num_steps else "Training is in progress, or was stopped"
        yield f"{state}; the last line was logged on {run.last_logged:%Y-%m-%d at %H:%M} UTC."


def _headlines(run: Run, cost: ModelCost, num_steps: int | None) -> Iterator[Headline]:
    metric = run.config["train"]["best_metric"]
    if run.best is not None:
        value = (run.checkpoints[run.best] or {})["score"]
        yield Headline(
            f"{value:.1f}%", f"{metric} of the best checkpoint", f"step {run.best}, held-out videos"
        )
    if num_steps:
        yield Headline(f"{run.step / num_steps:.0%}", "of training done", f"step {run.step} of {num_steps}")
    unit, (full,) = cost_unit(cost.exit_gflops[-1:])
    yield Headline(
        f"{full:.3g} {unit[0]}", "multiply-adds per video", f"{cost.params / 1e6:.3g} M parameters"
    )
    paces = [row for row in run.rows if "examples_per_sec" in row]
    if paces:
        note = f"{paces[-1]['data_wait_frac']:.0%} of the time waiting for data"
        yield Headline(f"{paces[-1]['examples_per_sec']:.3g}", "videos per second in training", note)


def _sections(
    run: Run,
    cost: ModelCost,
    shown: Sequence[VideoPrediction],
    why_none: str,
    gallery: np.ndarray | None,
) -> Iterator[Section]:
    yield checkpoints_section(run)
    if run.figures is None:
        text = f"Not measured yet. Run: adafocus evaluate --checkpoint {run.workdir} --early-exit --controls"
        yield Section("Early exit", (text,))
    else:
        yield exits_section(run.figures, run.config["model"])
        if "controls" in run.figures:
            yield Section("Learned policies against controls", content=(controls_table(run.figures),))
    if gallery is not None:
        text = "The last evaluation, all exits computed: each video by its most important focus frame."
        picture = Picture(gallery, text, "Gallery of held-out videos", photo=True)
        yield Section("Most and least confident videos, and wrong ones", content=(picture,))
    for video in shown:
        yield video_section(f"Held-out video {video.name}", video)
    if why_none:
        yield Section("Held-out videos", (why_none,))
    yield training_section(run.rows, policies="spatial" in run.config["model"])
    yield cost_section(cost)
    yield config_section(run.config)


def _held_out(workdir: Path, data: Mapping[str, Any], videos: int) -> tuple[list[VideoPrediction], str]:
    """The first videos of the held-out split as the best checkpoint sees them; if there are none, the reason."""
    try:
        source = open_split(data, data["val_split"])
        trained = load_model(workdir)
        count = min(videos, len(source))
        with progress("predicting", count) as advance:
            batch = next(iter(eval_batches(source, trained.spec, batch_size=round_up_to_devices(count))))
            predict = make_predict_function(trained.model, trained.checkpoint.variables)
            found = predict_split(predict, [VideoBatch(**batch)], advance)
        solved = stored_policies(trained.folder)
        policy = choose_policy(solved) if solved else None
        shown = source_predictions(
            source, trained.spec, trained.classes, found, trained.exit_gflops, policy, count=count
        )
        return list(shown), ""
    except UserError as error:
        return [], f"None to show: {error}."


def _gallery(run: Run, data: Mapping[str, Any]) -> np.ndarray | None:
    """A gallery of what the last evaluation predicted; None if its predictions, or their videos, are not at hand."""
    path = run.workdir / EVALUATION_FOLDER / PREDICTIONS_FILE
    if run.figures is None or not path.is_file():
        return None
    try:
        source = open_split(data, run.figures["split"])
        with np.load(path) as archive:
            found = Predictions(**archive)
        spec = clip_spec(run.config, make_model(run.config))
        return validation_gallery(source, spec, tuple(run.config["classes"]), found)
    except UserError as error:
        log.warning("no gallery: %s", error)
        return None


def _num_steps(config: Mapping[str, Any], data: Mapping[str, Any]) -> int | None:
    """Steps of the whole run; None if that depends on records that are missing."""
    if config["train"]["steps"]:
        return int(config["train"]["steps"])
    try:
        return train_options(config, len(open_split(data, data["train_split"]))).num_steps
    except UserError:
        return None

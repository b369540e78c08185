"""Reads what a workdir holds: a run in progress, a crashed one, or a converted checkpoint."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from adafocus_jax.checkpoint import checkpoint_folder
from adafocus_jax.checkpoint.read import DamagedCheckpointError, read_config, read_metrics, step_numbers
from adafocus_jax.config import complete
from adafocus_jax.io import read_json_lines, write_json
from adafocus_jax.train.logger import METRICS_FILE

EVALUATION_FOLDER = "evaluation"
FIGURES_FILE, PREDICTIONS_FILE = "figures.json", "predictions.npz"


@dataclass(frozen=True)
class Run:
    """A training run, from its files."""

    workdir: Path
    config: dict[str, Any]
    """As saved beside the checkpoints."""
    rows: list[dict[str, Any]]
    """Lines of ``metrics.jsonl``; empty for a converted checkpoint."""
    last_logged: datetime | None
    """When the last of them was written."""
    checkpoints: dict[int, dict[str, float] | None]
    """Step to its evaluation metrics, with ``score``; None: damaged."""
    figures: dict[str, Any] | None
    """Figures of the last ``adafocus evaluate``; None if it was not run."""

    @property
    def step(self) -> int:
        """Updates done, according to the files."""
        return max([0, *self.checkpoints, *(row["step"] for row in self.rows)])

    @property
    def best(self) -> int | None:
        """The step of the checkpoint with the highest score; None if none was evaluated."""
        scores = {
            step: found["score"] for step, found in self.checkpoints.items() if found and "score" in found
        }
        return max(scores, key=lambda step: (scores[step], step), default=None)


def read_run(directory: str | os.PathLike[str]) -> Run:
    """Reads a workdir; only the configuration is required.

    Raises:
      UserError: no such folder, or it is no workdir.
    """
    folder = checkpoint_folder(directory)
    workdir = folder.resolve().parent
    log, figures = workdir / METRICS_FILE, workdir / EVALUATION_FOLDER / FIGURES_FILE
    return Run(
        workdir=workdir,
        config=complete(read_config(folder)),
        rows=read_json_lines(log) if log.is_file() else [],
        last_logged=datetime.fromtimestamp(log.stat().st_mtime, UTC) if log.is_file() else None,
        checkpoints={step: _metrics(folder / str(step)) for step in step_numbers(folder)},
        figures=json.loads(figures.read_text(encoding="utf-8")) if figures.is_file() else None,
    )


def write_figures(folder: Path, figures: Mapping[str, Any]) -> None:
    """Writes the figures of an evaluation to ``folder``, where ``read_run`` finds them."""
    write_json(folder / FIGURES_FILE, figures)


def _metrics(step_folder: Path) -> dict[str, float] | None:
    try:
        return read_metrics(step_folder)
    except DamagedCheckpointError:
        return None

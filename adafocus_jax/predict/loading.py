"""From a checkpoint to a model that runs, and from its settings to data: what the commands share."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from adafocus_jax.checkpoint import LoadedCheckpoint, checkpoint_folder, load_checkpoint, require_same_arrays
from adafocus_jax.config import clip_spec, complete, make_model
from adafocus_jax.data.batches.pipeline import ClipSpec
from adafocus_jax.flops import model_cost
from adafocus_jax.models import VideoModel, variable_shapes


@dataclass(frozen=True)
class TrainedModel:
    """A checkpoint, ready to run."""

    folder: Path
    """The folder of checkpoints."""
    checkpoint: LoadedCheckpoint
    model: VideoModel
    spec: ClipSpec
    exit_gflops: np.ndarray
    """``[E]`` giga multiply-adds."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The K class names that the checkpoint was trained on."""
        return tuple(self.checkpoint.config["classes"])

    @property
    def best_metric(self) -> str:
        """The metric by which the run chose its best checkpoint."""
        return str(self.checkpoint.config["train"]["best_metric"])

    @property
    def data(self) -> dict[str, Any]:
        """The data part of the run's configuration."""
        return dict(self.checkpoint.config["data"])


def add_checkpoint_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags that say which model to run."""
    parser.add_argument(
        "--checkpoint",
        required=True,
        metavar="DIR",
        help="workdir of a training run, or a folder of checkpoints",
    )
    parser.add_argument(
        "--which", choices=("best", "latest"), default="best", help="which checkpoint (default %(default)s)"
    )


def load_model(directory: str | os.PathLike[str], which: str = "best") -> TrainedModel:
    """Reads a checkpoint and builds its model.

    Args:
      directory: a workdir of training, a folder of checkpoints, or the folder of one step.
      which: ``best`` or ``latest``.

    Raises:
      UserError: there is none, or its arrays are not those of its configuration.
    """
    checkpoint = load_checkpoint(directory, which)
    checkpoint = checkpoint._replace(config=complete(checkpoint.config))
    model = make_model(checkpoint.config)
    require_same_arrays(checkpoint.variables, variable_shapes(model), str(directory))
    return TrainedModel(
        folder=checkpoint_folder(directory),
        checkpoint=checkpoint,
        model=model,
        spec=clip_spec(checkpoint.config, model),
        exit_gflops=model_cost(model).exit_gflops,
    )

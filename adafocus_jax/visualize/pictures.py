"""Pictures of a few held-out videos, for the log of a training run."""

from __future__ import annotations

import numpy as np

from adafocus_jax.data.batches.pipeline import ClipSpec
from adafocus_jax.data.batches.sources import Source
from adafocus_jax.evaluate.predict import Predictions
from adafocus_jax.predict.videos import source_predictions
from adafocus_jax.visualize.curves import temporal_weights
from adafocus_jax.visualize.frames import contact_sheet


def evaluation_pictures(
    source: Source, spec: ClipSpec, predictions: Predictions, count: int
) -> dict[str, np.ndarray]:
    """Draws the ``count`` first videos, the same at every evaluation, from what it predicted anyway.

    Args:
      source: the videos that were predicted.
      spec: how their clips are cut.
      predictions: of these videos.
      count: how many; 0: none.

    Returns:
      RGB ``uint8 [H, 960, 3]`` by name: ``VIDEO/frames`` (chosen frames, boxes, patches), ``VIDEO/weights``.

    Raises:
      RecordError: a video does not read.
    """
    # Neither picture shows a cost, which would take seconds to count.
    unknown = np.full(predictions.exit_logits.shape[1], np.nan)
    videos = source_predictions(source, spec, source.classes, predictions, unknown, count=count)
    draw = {"frames": contact_sheet, "weights": temporal_weights}
    return {f"{video.name}/{kind}": picture(video) for video in videos for kind, picture in draw.items()}

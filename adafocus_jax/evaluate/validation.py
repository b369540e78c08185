"""The evaluation of a run in training: all processes predict their share of a held-out split, and score the whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from adafocus_jax.data.batches.pipeline import ClipSpec, eval_batches
from adafocus_jax.data.batches.sources import Source
from adafocus_jax.evaluate.evaluators import score
from adafocus_jax.evaluate.gather import gather_predictions
from adafocus_jax.evaluate.predict import (
    Predictions,
    make_predict_function,
    predict_split,
    round_up_to_devices,
)
from adafocus_jax.models import VideoModel
from adafocus_jax.train.loop import Evaluator
from adafocus_jax.types import VideoBatch


def validation_evaluator(
    model: VideoModel,
    source: Source,
    spec: ClipSpec,
    *,
    batch_size: int,
    every: int = 0,
    evaluators: Sequence[str] = ("classification",),
    draw: Callable[[Predictions], Mapping[str, np.ndarray]] | None = None,
    reading: Mapping[str, Any] | None = None,
) -> Evaluator:
    """The evaluator ``eval`` of a training run.

    Args:
      model: the one that is trained.
      source: the held-out videos.
      spec: how clips are cut.
      batch_size: videos at a time, over all processes; rounded up to the devices.
      every: steps between evaluations; 0: at the end alone.
      evaluators: keys of ``EVALUATORS``, all of which score the same predictions.
      draw: makes pictures by name, RGB uint8 ``[H, W, 3]``, of the predictions; called in process 0 alone.
      reading: ``num_threads``, ``on_bad_record`` and the like for ``eval_batches``.
    """
    processes = jax.process_count()
    share = round_up_to_devices(-(-min(batch_size, len(source)) // processes))

    def evaluate(
        variables: dict[str, Any], progress: Callable[[int], None]
    ) -> Mapping[str, float | np.ndarray]:
        batches = eval_batches(
            source,
            spec,
            batch_size=share * processes,
            process_index=jax.process_index(),
            process_count=processes,
            **(reading or {}),
        )
        predict = make_predict_function(model, variables)
        own = predict_split(predict, (VideoBatch(**batch) for batch in batches), progress)
        found = gather_predictions(own)
        pictures = draw(found) if draw is not None and jax.process_index() == 0 else {}
        return {**score(found, evaluators), **pictures}

    return Evaluator("eval", evaluate, every)

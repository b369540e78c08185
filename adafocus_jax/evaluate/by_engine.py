"""Evaluation by the engine that serves, so that what is measured is what is served."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import numpy as np

from adafocus_jax.engine import Engine, Request, Result
from adafocus_jax.evaluate.predict import PredictFunction
from adafocus_jax.types import ModelOutput, VideoBatch


def engine_predict_function(engine: Engine) -> PredictFunction:
    """``make_predict_function`` of an engine without a policy, whose videos all take the last exit."""

    def predict(batch: VideoBatch, number: int) -> ModelOutput:
        results: dict[Any, Result] = {}
        for result in engine.run(_requests(engine, batch)):
            if result.error is not None:
                raise result.error
            results[result.key] = result
        return _output(engine, [results[row] for row in range(len(results))])

    return predict


def _requests(engine: Engine, batch: VideoBatch) -> Iterator[Request]:
    for number, frames in enumerate(np.asarray(batch.frames)):
        if batch.glance is not None:
            glance = np.asarray(batch.glance[number])
        else:
            glance = frames if engine.glance_indices is None else frames[engine.glance_indices]
        yield Request(number, glance, frames)


def _output(engine: Engine, results: list[Result]) -> ModelOutput:
    model, count = engine.model, len(results)
    found: dict[str, Any] = dict.fromkeys(field.name for field in fields(ModelOutput))
    found["exit_logits"] = np.stack([np.asarray(result.logits) for result in results])
    found["logits"] = found["exit_logits"][:, -1]
    if results[0].boxes is None:  # a plain classifier, which sees all frames whole
        whole = np.array([0, 0, model.image_size, model.image_size], np.float32)
        frames = model.num_candidates
        found["frame_weights"] = np.full((count, frames), 1 / frames, np.float32)
        found["frame_indices"] = np.tile(np.arange(frames, dtype=np.int32), (count, 1))
        found["boxes"] = np.tile(whole, (count, frames, 1))
    else:
        for name in ("frame_weights", "frame_indices", "boxes"):
            found[name] = np.stack([getattr(result, name) for result in results])
    if engine.glance_indices is not None:
        found["glance_indices"] = np.tile(engine.glance_indices, (count, 1))
    return ModelOutput(**found)

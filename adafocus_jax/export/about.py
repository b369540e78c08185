"""What a manifest says of a model, in whatever format it is exported."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import jax
import numpy as np

from adafocus_jax.evaluate.exits import stored_policies
from adafocus_jax.models import VideoModel
from adafocus_jax.predict.loading import TrainedModel

MEANINGS = {
    "frames": "RGB frames; normalisation is part of the model",
    "glance_frames": "RGB frames sampled for the glance, at equal distances; normalisation is part of the model",
    "boxes": "box of each chosen frame in pixels: top, left, height, width",
    "depth": "place of the patch among the chosen frames of its video, from 0",
    "slot": "any number that is the same for all patches of a video, and differs between videos",
    "indices": "which candidates are chosen, from 0, increasing",
    "frame_indices": "which candidates were chosen, from 0, increasing",
    "weights": "temporal policy: weight of each glance frame, summing to 1",
    "frame_weights": "temporal policy: weight of each glance frame, summing to 1",
    "features": "state, for the stage choose",
    "maps": "state, for the stage choose",
    "memory": "state, for the stage look",
    "hidden": "state: running maximum over the patches seen; 0 before the first",
    "next_hidden": "the input hidden of the video's next patches",
    "logits": "class scores before the softmax, by exit",
    "exit_logits": "class scores before the softmax of every exit, cheapest first",
}
"""Name of an input or output to what it is."""


def about(trained: TrainedModel) -> dict[str, Any]:
    """Model, classes, preprocessing, exits with all stored thresholds, and versions."""
    spec, model, settings = trained.spec, trained.model, dict(trained.checkpoint.config["model"])
    glance = model.glance_candidates
    return {
        "model": settings,
        "step": trained.checkpoint.step,
        "classes": list(trained.classes),
        "preprocessing": {
            "frames": "uint8 RGB, values 0 to 255; (x / 255 - mean) / std happens inside the model",
            "num_candidates": spec.num_candidates,
            "candidates": "the middle frame of each of num_candidates equal segments of the video",
            "num_glance": model.num_separate_glance,
            "glance_candidates": None if glance is None else glance.tolist(),
            "short_side_px": spec.short_side,
            "crop_px": spec.image_size,
            "crop": "short side resized to short_side_px, then the centre crop_px x crop_px pixels",
        },
        "exits": {
            "gflops": trained.exit_gflops.tolist(),
            "policies": [asdict(policy) for policy in stored_policies(trained.folder)],
        },
        "versions": {name: importlib.metadata.version(name) for name in ("adafocus_jax", "jax", "jaxlib")},
    }


def described(shapes: Mapping[str, Any], names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Shape, dtype and meaning of inputs or outputs, in the order of ``names``."""
    return {
        name: {
            "shape": list(shapes[name].shape),
            "dtype": np.dtype(shapes[name].dtype).name,
            "meaning": MEANINGS.get(name, ""),
        }
        for name in names
    }


def whole_inputs(model: VideoModel) -> dict[str, jax.ShapeDtypeStruct]:
    """One row of what the model is given in one go."""
    side = (model.image_size, model.image_size, 3)
    inputs = {"frames": jax.ShapeDtypeStruct((model.num_candidates, *side), np.uint8)}
    if model.num_separate_glance:
        inputs["glance_frames"] = jax.ShapeDtypeStruct((model.num_separate_glance, *side), np.uint8)
    return inputs

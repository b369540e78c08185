"""What inference runs, stage by stage, so that a video that leaves early pays for nothing behind its exit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from adafocus_jax.models.layers import FrameFeatures
from adafocus_jax.ops.normalize import normalize_frames
from adafocus_jax.types import Array, VideoBatch

Arrays = dict[str, Array]
StageFunction = Callable[[Any, Arrays, Arrays], tuple[Arrays, Arrays]]
"""From (module, inputs, state) to (outputs for the host, state that later stages of the same video read)."""
EncodeFunction = Callable[[Any, Arrays], Arrays]
"""From (module, inputs ``[B, T, …]``) to what an encoder says of each frame by itself, ``[B, T, …]``."""


@struct.dataclass
class GlanceExits:
    """What a classifier makes of the glance."""

    memory: Array
    """``[B, C]``: what the exits along the focus frames read again."""
    exit_logits: Array
    """``[B, E, K]``: the exits along the glance."""


@struct.dataclass
class Glance:
    """What the glance yields: a prediction, and all that the choice of frames and boxes rests on."""

    memory: Array
    """Of ``GlanceExits``."""
    features: Array
    """``[B, G, D]`` float32, pooled over space."""
    maps: Array
    """``[B, G, h, w, D]``."""
    exit_logits: Array
    """``[B, E, K]``: of ``GlanceExits``."""
    global_logits: Array
    """``[B, G, K]``: the per-frame head."""
    indices: Array | None
    """``[B, G]`` candidates glanced at; None when the glance came separately."""


@struct.dataclass
class Policies:
    """What both policies say."""

    frame_logits: Array
    """``[B, G]``: temporal policy, before the softmax."""
    actions: Array
    """``[B, G or 1, 4]``: spatial policy."""


@dataclass(frozen=True)
class Stage:
    """One step of inference over the rows of a bucket; a row is a video or, where patches are seen one by one, a patch.

    ``model.apply(variables, inputs, state, method=stage.run)`` returns ``(outputs, new state)``; the leading axis of
    every array are the rows. What a row yields does not depend on the others, but for those of the same ``slot``.
    """

    name: str
    """``glance``, ``choose`` or ``look``, run in this order; a plain classifier has a ``glance`` alone."""
    run: StageFunction
    inputs: Mapping[str, jax.ShapeDtypeStruct]
    """Shapes and dtypes of one row of what the host brings. ``frames [T, H, W, 3]`` tell how many frames that are;
    ``slot`` is a number per video; ``depth`` the place of a patch among the chosen frames."""
    reads: tuple[str, ...] = ()
    """Names of the state that it is given."""
    rows: int = 1
    """Rows that a whole video has."""
    encode: EncodeFunction | None = None
    """The part of ``run`` that sees each frame by itself, with those of ``inputs`` that have an axis of frames;
    ``run`` takes its outputs in place of them. None where frames are seen together."""
    run_last: StageFunction | None = None
    """``run`` for callers who want the logits of its last exit alone; None where that saves nothing."""


def frames_input(count: int, size: int) -> jax.ShapeDtypeStruct:
    """One row of ``count`` frames ``[count, size, size, 3]`` uint8."""
    return jax.ShapeDtypeStruct((count, size, size, 3), jnp.uint8)


def policy_stages(
    model: Any,
    look: Stage,
    glance: StageFunction | None = None,
    encode: EncodeFunction | None = None,
    glance_last: StageFunction | None = None,
) -> tuple[Stage, ...]:
    """The stages of an ``AdaFocus``: its ``glance``, its policies for those who stay, and ``look``."""
    draw = {"draw": jax.ShapeDtypeStruct((), jnp.uint32)} if model.draws_in_evaluation else {}
    frames = {"frames": frames_input(model.num_glance, model.image_size)}
    return (
        Stage("glance", glance or glance_stage, frames, encode=encode, run_last=glance_last),
        Stage("choose", choose_stage, draw, ("features", "maps")),
        look,
    )


def glance_stage(model: Any, inputs: Arrays, state: Arrays) -> tuple[Arrays, Arrays]:
    """``frames [B, G, H, W, 3]`` to ``logits [B, E, K]`` of the exits along the glance."""
    found = inputs if "encoded_maps" in inputs else encode_glance(model, inputs)
    glance = model.classify_glance(
        FrameFeatures(found["encoded_maps"], found["encoded_pooled"]), None, None, False
    )
    kept = {"features": glance.features, "maps": glance.maps, "memory": glance.memory}
    return {"logits": glance.exit_logits}, kept


def encode_glance(model: Any, inputs: Arrays) -> Arrays:
    """``frames [B, T, H, W, 3]`` to ``encoded_maps [B, T, h, w, D]`` and ``encoded_pooled [B, T, D]``."""
    frames, _ = model.glance_frames(VideoBatch(frames=None, glance=inputs["frames"]), False, None)
    features = model.global_encoder(frames, False)
    return {"encoded_maps": features.maps, "encoded_pooled": features.pooled}


def choose_stage(model: Any, inputs: Arrays, state: Arrays) -> tuple[Arrays, Arrays]:
    """``draw [B]`` uint32, of random controls alone, to ``indices [B, F]``, ``boxes [B, F, 4]``, ``weights [B, G]``."""
    draws = None
    if model.draws_in_evaluation:
        draws = jax.vmap(lambda seed: model.draws(jax.random.key(seed)))(inputs["draw"])
    policies = model.policies(state["features"], state["maps"], draws=draws)
    indices, _, _ = model.choose_frames(policies, False, draws)
    boxes = model.choose_boxes(policies, indices)
    weights = jax.nn.softmax(policies.frame_logits, axis=-1)
    return {"indices": indices, "boxes": boxes, "weights": weights}, {}


def encode_patches(model: Any, inputs: Arrays) -> Arrays:
    """Local features as of ``patch_features``, by the name ``local``."""
    return {"local": patch_features(model, inputs)}


def patch_features(model: Any, inputs: Arrays) -> Array:
    """Local features ``[B, f, D']`` of ``frames [B, f, H, W, 3]`` cut by ``boxes [B, f, 4]``."""
    patches = model.cut_patches(normalize_frames(inputs["frames"], model.dtype), inputs["boxes"])
    return model.local_encoder(patches, False).pooled

"""Uni-AdaFocus for untrimmed videos: an exit after every frame."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from adafocus_jax.models.adafocus import AdaFocus
from adafocus_jax.models.classifier import PoolingClassifier
from adafocus_jax.models.stages import (
    Arrays,
    GlanceExits,
    Stage,
    encode_glance,
    encode_patches,
    frames_input,
    glance_stage,
    policy_stages,
)
from adafocus_jax.types import Array


class UniAdaFocus(AdaFocus):
    """The model of untrimmed-video data sets (ActivityNet, FCVID, Mini-Kinetics): ``E = G + F`` exits.

    Build it with ``create_model("uni_adafocus", …)``, which checks the arguments and makes the encoders.
    """

    separate_glance = False
    box_per_video = False
    policy_trains_encoder = True
    average_frames = False

    classifier_hidden: int = 4096
    reuse_glance: bool = True
    """Focus exits read the glance features too; False is the paper's ablation of feature reuse."""

    def setup_exits(self) -> None:
        """One classifier, of its own learning rate."""
        self.classifier = PoolingClassifier(
            self.num_classes,
            self.classifier_hidden,
            self.dropout,
            self.reuse_glance,
            norm=self.norm,
            dtype=self.dtype,
        )

    def glance_exits(
        self, features: Array, frame_logits: Array, keys: Array | None, train: bool
    ) -> GlanceExits:
        """An exit after each glance frame; the memory is the maximum over all of them, ``[B, hidden]``."""
        pooled = self.classifier.pool_glance(features, train)
        return GlanceExits(pooled[:, -1], self.classifier.glance_exits(pooled, keys, train))

    def focus_exits(self, features: Array, memory: Array, keys: Array | None, train: bool) -> Array:
        """Logits ``[B, F, K]``: an exit after each focus frame."""
        return self.classifier.focus_exits(features, memory, keys, train)

    def stages(self) -> tuple[Stage, ...]:
        """A row of ``look`` is a patch: its bucket mixes videos and depths, those of one video in order of depth."""
        number = jax.ShapeDtypeStruct((), jnp.int32)
        inputs = {
            "frames": frames_input(1, self.image_size),
            "boxes": jax.ShapeDtypeStruct((1, 4), jnp.float32),
            "depth": number,
            "slot": number,
        }
        reads = ("memory", "hidden")
        look = Stage(
            "look", _look, inputs, reads, rows=self.num_focus, encode=encode_patches, run_last=_look_last
        )
        return policy_stages(self, look, _glance, encode_glance, _glance_last)

    @classmethod
    def parameter_groups(cls, whole_frames: bool) -> dict[str, str]:
        """The classifier has a group of its own."""
        return super().parameter_groups(whole_frames) | {"classifier": "classifier/.*"}


def _glance(model: UniAdaFocus, inputs: Arrays, state: Arrays) -> tuple[Arrays, Arrays]:
    """The running maximum over focus frames, ``hidden``, begins at 0, below which no hidden value lies."""
    outputs, state = glance_stage(model, inputs, state)
    return outputs, {**state, "hidden": jnp.zeros_like(state["memory"])}


def _glance_last(model: UniAdaFocus, inputs: Arrays, state: Arrays) -> tuple[Arrays, Arrays]:
    """As ``_glance``, to ``logits [B, 1, K]`` of the last exit along the glance."""
    _, state = _glance(model, inputs, state)
    return {"logits": model.classifier.last_glance_exit(state["memory"])[:, None]}, state


def _look(model: UniAdaFocus, inputs: Arrays, state: Arrays) -> tuple[Arrays, Arrays]:
    """``frames [M, 1, H, W, 3]``, ``boxes [M, 1, 4]``, ``depth [M]`` in 0…F−1, ``slot [M]`` to ``logits [M, 1, K]``."""
    so_far, kept = _look_so_far(model, inputs, state)
    logits = model.classifier.focus_exit(so_far, state["memory"], inputs["depth"])
    return {"logits": logits[:, None]}, kept


def _look_last(model: UniAdaFocus, inputs: Arrays, state: Arrays) -> tuple[Arrays, Arrays]:
    """As ``_look``, but all logits are of the last exit, and mean something where ``depth`` is F−1."""
    so_far, kept = _look_so_far(model, inputs, state)
    return {"logits": model.classifier.last_focus_exit(so_far, state["memory"])[:, None]}, kept


def _look_so_far(model: UniAdaFocus, inputs: Arrays, state: Arrays) -> tuple[Array, Arrays]:
    """The maximum ``[M, hidden]`` up to each patch, and the new state."""
    found = inputs if "local" in inputs else encode_patches(model, inputs)
    z = model.classifier.hide_focus(found["local"][:, 0], False)
    same = inputs["slot"][:, None] == inputs["slot"][None]
    so_far = jnp.maximum(state["hidden"], _maximum(z, jnp.tril(same)))
    return so_far, {"hidden": jnp.maximum(state["hidden"], _maximum(z, same))}


def _maximum(z: Array, rows: Array) -> Array:
    """Maximum ``[M, C]`` of values ``[M, C]``, not below 0, over the ``rows [M, M]`` marked for each."""
    return jnp.max(jnp.where(rows[..., None], z[None], jnp.zeros((), z.dtype)), axis=1)

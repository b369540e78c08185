"""Uni-AdaFocus for trimmed videos: one exit after the glance, one after all."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn

from adafocus_jax.models.adafocus import AdaFocus
from adafocus_jax.models.stages import Arrays, GlanceExits, Stage, frames_input, patch_features, policy_stages
from adafocus_jax.ops.temporal_logits import num_rounds
from adafocus_jax.types import Array


class TwoExitAdaFocus(AdaFocus):
    """The model of trimmed-video data sets (Something-Something, Jester, Kinetics), on TSM or X3D encoders.

    Each encoder has two heads. The *auxiliary* ones (``global_head``, ``local_head``) see every frame and train the
    encoders. The *final* ones see stopped features; the sum of their logits is the prediction. The exit after
    the glance is the mean of the auxiliary logits, as in the authors' release: the final heads are only ever trained
    together, so that one alone is no classifier.
    """

    separate_glance = True
    box_per_video = True
    policy_trains_encoder = False
    average_frames = True
    candidates_per_focus = 3

    pool_time: bool = False
    """The final heads see the mean feature of all frames, instead of voting on each."""

    @property
    def num_rounds(self) -> int:
        """T1; the release rounds G / 3 to the nearest with X3D, and down otherwise."""
        return num_rounds(self.num_glance, nearest=self.pool_time)

    def setup_exits(self) -> None:
        """Beside the auxiliary heads, so that optimizer groups see heads of one kind."""
        self.global_final_head = self.head(self.num_classes, dropout=self.dropout)
        self.local_final_head = self.head(self.num_classes, dropout=self.dropout)

    def glance_exits(
        self, features: Array, frame_logits: Array, keys: Array | None, train: bool
    ) -> GlanceExits:
        """The mean auxiliary logits, ``[B, 1, K]``; the memory is the final head's ``[B, K]``."""
        final = self._vote(self.global_final_head, features, keys, train)
        return GlanceExits(final, frame_logits.mean(axis=1, keepdims=True))

    def focus_exits(self, features: Array, memory: Array, keys: Array | None, train: bool) -> Array:
        """The sum of both final heads, ``[B, 1, K]``."""
        return (memory + self._vote(self.local_final_head, features, keys, train))[:, None]

    def stages(self) -> tuple[Stage, ...]:
        """A row of ``look`` is a video with all its patches, since they see one another."""
        frames = frames_input(self.num_focus, self.image_size)
        boxes = jax.ShapeDtypeStruct((self.num_focus, 4), jnp.float32)
        return policy_stages(self, Stage("look", _look, {"frames": frames, "boxes": boxes}, ("memory",)))

    def _vote(self, head: nn.Module, features: Array, keys: Array | None, train: bool) -> Array:
        features = jax.lax.stop_gradient(features.astype(jnp.float32))
        if self.pool_time:
            return head(features.mean(axis=1), keys, train)
        return head(features, keys, train).mean(axis=1)


def _look(model: TwoExitAdaFocus, inputs: Arrays, state: Arrays) -> tuple[Arrays, Arrays]:
    """``frames [B, F, H, W, 3]`` and ``boxes [B, F, 4]`` to ``logits [B, 1, K]``."""
    return {"logits": model.focus_exits(patch_features(model, inputs), state["memory"], None, False)}, {}

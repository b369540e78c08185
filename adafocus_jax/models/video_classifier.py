"""A plain classifier: one encoder over whole frames, for the comparison tables and for pretraining."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from adafocus_jax.models.heads import LinearHead
from adafocus_jax.models.stages import Arrays, Stage, frames_input
from adafocus_jax.ops.normalize import normalize_frames
from adafocus_jax.types import Array, Draws, ModelOutput, PassOutput, VideoBatch


class VideoClassifier(nn.Module):
    """An encoder and a head (TSM, X3D). One exit, no policy: all frames are seen whole.

    Build it with ``create_model("tsm_resnet50", …)``. Parameters are ``encoder`` and ``classifier``.
    """

    separate_glance: ClassVar[bool] = False
    candidates_per_focus: ClassVar[int | None] = None
    num_separate_glance: ClassVar[int | None] = None
    glance_candidates: ClassVar[np.ndarray | None] = None
    draws_in_evaluation: ClassVar[bool] = False
    whole_frames: ClassVar[bool] = True
    average_frames: ClassVar[bool] = True

    num_classes: int
    encoder: nn.Module
    """Videos ``[B, N, S, S, 3]`` to ``FrameFeatures``."""
    num_candidates: int = 8
    """Frames per video, all of them seen."""
    image_size: int = 224
    head: Callable[..., nn.Module] = LinearHead
    """From ``(num_classes, dropout=...)`` to the head."""
    pool_time: bool = False
    """The head sees the mean feature of all frames, instead of voting on each."""
    dropout: float = 0.5
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, batch: VideoBatch, train: bool = False, draws: Draws | None = None) -> ModelOutput:
        """The same named result as of ``AdaFocus``: the only exit, uniform weights, boxes that are whole frames."""
        features = self.encoder(normalize_frames(batch.frames, self.dtype), train).pooled
        features = features.astype(jnp.float32)
        head = self.head(self.num_classes, dropout=self.dropout, name="classifier")
        keys = draws.dropout if train and draws is not None else None
        if self.pool_time:
            logits = head(features.mean(axis=1), keys, train)
        else:
            logits = head(features, keys, train).mean(axis=1)
        videos, frames = features.shape[:2]
        whole = jnp.array([0, 0, self.image_size, self.image_size], jnp.float32)
        boxes = jnp.broadcast_to(whole[None, None], (videos, frames, 4))
        only = PassOutput(exit_logits=logits[:, None], local_logits=None, boxes=boxes)
        return ModelOutput(
            logits=logits,
            exit_logits=only.exit_logits,
            global_logits=None,
            local_logits=None,
            temporal_logits=None,
            spatial_logits=None,
            frame_weights=jnp.full((videos, frames), 1 / frames, jnp.float32),
            frame_indices=jnp.broadcast_to(jnp.arange(frames, dtype=jnp.int32)[None], (videos, frames)),
            glance_indices=None,
            actions=jnp.broadcast_to(jnp.array([0.5, 0.5, 1, 1], jnp.float32)[None, None], (videos, 1, 4)),
            boxes=boxes,
            glance_features=features,
            policy=only if train else None,
            random=only if train else None,
        )

    def stages(self) -> tuple[Stage, ...]:
        """One stage: all frames, and the only exit."""
        return (Stage("glance", _glance, {"frames": frames_input(self.num_candidates, self.image_size)}),)

    def draws(self, key: Array) -> Draws:
        """All randomness of one video: dropout."""
        return Draws(dropout=key)

    def with_all_parameters(self) -> VideoClassifier:
        """Itself: it has no controls."""
        return self

    @classmethod
    def parameter_groups(cls, whole_frames: bool) -> dict[str, str]:
        """All in one group."""
        return {"all": ".*"}

    def size_complaints(self) -> Iterator[str]:
        """Nothing: its sizes fit any others."""
        return iter(())


def _glance(model: VideoClassifier, inputs: Arrays, state: Arrays) -> tuple[Arrays, Arrays]:
    """``frames [B, N, S, S, 3]`` to ``logits [B, 1, K]``."""
    return {"logits": model(VideoBatch(frames=inputs["frames"])).exit_logits}, {}

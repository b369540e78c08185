"""Uni-AdaFocus for untrimmed videos: an exit after every frame."""

from __future__ import annotations

from adafocus_jax.models.adafocus import AdaFocus, GlanceExits
from adafocus_jax.models.classifier import PoolingClassifier
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

    def setup_exits(self) -> None:
        """One classifier, of its own learning rate."""
        self.classifier = PoolingClassifier(
            self.num_classes, self.classifier_hidden, self.dropout, norm=self.norm, dtype=self.dtype
        )

    def glance_exits(
        self, features: Array, frame_logits: Array, keys: Array | None, train: bool
    ) -> GlanceExits:
        """An exit after each glance frame; the memory is the running maximum ``[B, G, hidden]``."""
        pooled = self.classifier.pool_glance(features, train)
        return GlanceExits(pooled, self.classifier.glance_exits(pooled, keys, train))

    def focus_exits(self, features: Array, memory: Array, keys: Array | None, train: bool) -> Array:
        """Logits ``[B, F, K]``: an exit after each focus frame."""
        return self.classifier.focus_exits(features, memory, keys, train)

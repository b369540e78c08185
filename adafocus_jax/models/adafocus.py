"""What all variants share: glance at a few frames, choose frames and patches, look closely, classify."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from adafocus_jax.errors import UserError
from adafocus_jax.models.draws import dropout_keys, policy_draws
from adafocus_jax.models.heads import LinearHead
from adafocus_jax.models.layers import BatchNorm, Dense, FrameFeatures
from adafocus_jax.models.policies import SpatialPolicy, TemporalPolicy, control_actions, interpolate_actions
from adafocus_jax.models.sizes import size_complaints
from adafocus_jax.models.stages import Glance, GlanceExits, Policies, Stage
from adafocus_jax.ops.frame_selection import (
    select_frames,
    straight_through_gate,
    straight_through_pixels,
    take_frames,
)
from adafocus_jax.ops.normalize import normalize_frames
from adafocus_jax.ops.patch_crop import CropMethod, boxes_from_actions, crop_patches
from adafocus_jax.ops.temporal_logits import (
    exact_coefficients,
    expected_logits,
    monte_carlo_coefficients,
    num_rounds,
)
from adafocus_jax.types import Array, Draws, ModelOutput, PassOutput, VideoBatch

SpatialMode = Literal["learned", "centre", "random", "gaussian"]
SpatialEstimator = Literal["proxy", "interpolation"]
TemporalMode = Literal["learned", "uniform", "random"]
TemporalEstimator = Literal["exact", "monte_carlo", "straight_through"]


class AdaFocus(nn.Module):
    """The way of a video through glance, policies and focus. Subclasses say how it is classified.

    A subclass defines ``setup_exits``, ``glance_exits``, ``focus_exits`` and ``stages``, and the class constants below.
    """

    separate_glance: ClassVar[bool]
    """Batches carry glance frames that were sampled apart from the candidates."""
    box_per_video: ClassVar[bool]
    """All patches of a video are cut by one box, instead of one per frame."""
    policy_trains_encoder: ClassVar[bool]
    """The temporal policy's loss reaches the global encoder and its per-frame head."""
    average_frames: ClassVar[bool]
    """Trained on frame-averaged logits and on the last exit alone, instead of on every frame and exit."""
    candidates_per_focus: ClassVar[int | None] = None
    """N / F where another ``num_focus`` brings its ``num_candidates`` along."""

    num_classes: int
    global_encoder: nn.Module
    """Videos ``[B, G, s, s, 3]`` to ``FrameFeatures``."""
    local_encoder: nn.Module
    """Patches ``[B, F, P, P, 3]`` to ``FrameFeatures``."""
    num_glance: int = 16
    num_candidates: int = 48
    num_focus: int = 16
    image_size: int = 224
    glance_size: int = 224
    """Side at which the glance sees a frame, pixels; smaller than ``image_size`` resizes bilinearly."""
    patch_size: int = 128
    side_limits: tuple[float, float] = (3 / 7, 1.0)
    """Smallest and largest side of a box, as fractions of the image. (1, 1): whole frames, nothing to choose."""
    spatial: SpatialMode = "learned"
    spatial_estimator: SpatialEstimator = "proxy"
    """A proxy that crops feature maps, or the patches' own pixels (Wang et al., *AdaFocus V2*, CVPR 2022)."""
    random_pass: bool = True
    """Training also looks through random boxes; False is the paper's ablation of that second pass."""
    temporal: TemporalMode = "learned"
    temporal_estimator: TemporalEstimator = "exact"
    straight_through: Literal["gate", "pixels"] = "gate"
    temperature: float = 1.0
    """Softmax temperature of the density that frames are drawn from."""
    policy_hidden: int = 128
    policy_last_scale: float = 1.0
    temporal_hidden: int = 64
    dropout: float = 0.2
    """In the classifier's exits."""
    head_dropout: float = 0.2
    """In the per-frame heads."""
    head: Callable[..., nn.Module] = LinearHead
    """From ``(num_classes, dropout=...)`` to the per-frame head of an encoder."""
    crop: CropMethod = "auto"
    norm: Callable[..., nn.Module] = BatchNorm
    dtype: jnp.dtype = jnp.float32

    def setup(self) -> None:
        """Names are the top-level keys of the parameters, and what optimizer groups match."""
        self.global_head = self.head(self.num_classes, dropout=self.head_dropout)
        self.local_head = self.head(self.num_classes, dropout=self.head_dropout)
        self.proxy_head = Dense(self.num_classes)
        self.spatial_policy = SpatialPolicy(
            self.policy_hidden, self.box_per_video, self.policy_last_scale, norm=self.norm, dtype=self.dtype
        )
        self.temporal_policy = TemporalPolicy(self.temporal_hidden, norm=self.norm, dtype=self.dtype)
        self.setup_exits()

    def setup_exits(self) -> None:
        """Makes the modules of ``glance_exits`` and ``focus_exits``."""
        raise NotImplementedError

    def glance_exits(
        self, features: Array, frame_logits: Array, keys: Array | None, train: bool
    ) -> GlanceExits:
        """Classifies glance features ``[B, G, D]``; ``frame_logits [B, G, K]`` are those of the per-frame head."""
        raise NotImplementedError

    def focus_exits(self, features: Array, memory: Array, keys: Array | None, train: bool) -> Array:
        """Logits ``[B, E, K]`` of the exits along the focus features ``[B, F, D']``."""
        raise NotImplementedError

    def __call__(self, batch: VideoBatch, train: bool = False, draws: Draws | None = None) -> ModelOutput:
        """Glance, choose, look, classify.

        Evaluation chooses deterministically, uses running norm statistics and no dropout; ``draws`` is needed
        only for random controls. Training takes ``draws`` (see ``sample_draws``), updates ``batch_stats`` and runs the
        focus part twice on the same frames: with learned and with random boxes, together as one batch.
        """
        if draws is None and (train or self.draws_in_evaluation):
            raise ValueError("training and random policies need draws: sample_draws(rng, model, batch_size)")
        glance = self.glance(batch, train, draws)
        policies = self.policies(glance.features, glance.maps, train, draws)
        indices, gate, positions = self.choose_frames(policies, train, draws)
        boxes = self.choose_boxes(policies, indices)
        passes = [boxes]
        if train and self.random_pass and not self.whole_frames and draws and draws.positions is not None:
            passes.append(self._random_boxes(boxes, draws.positions))
        features = self._look(batch, indices, positions, passes, train)
        outputs = []
        for turn, (box, feature) in enumerate(zip(passes, features, strict=True)):
            keys = dropout_keys(draws, turn, train)
            outputs.append(self.classify(glance, feature, gate, box, keys, train))
        learned = outputs[0]
        return ModelOutput(
            logits=learned.exit_logits[:, -1],
            exit_logits=learned.exit_logits,
            global_logits=glance.global_logits,
            local_logits=learned.local_logits,
            temporal_logits=self._temporal_logits(glance, policies, draws),
            spatial_logits=self._proxy_logits(glance, policies),
            frame_weights=jax.nn.softmax(policies.frame_logits, axis=-1),
            frame_indices=indices,
            glance_indices=glance.indices,
            actions=policies.actions,
            boxes=learned.boxes,
            glance_features=glance.features,
            policy=learned if train else None,
            random=outputs[-1] if train else None,
            average_frames=self.average_frames,
        )

    def glance(self, batch: VideoBatch, train: bool = False, draws: Draws | None = None) -> Glance:
        """The cheap part: global encoder, per-frame head, the exits along the glance. No policy runs."""
        frames, indices = self.glance_frames(batch, train, draws)
        features = self.global_encoder(frames, train)
        return self.classify_glance(features, indices, dropout_keys(draws, 0, train), train)

    def classify_glance(
        self, features: FrameFeatures, indices: Array | None, keys: Array | None, train: bool
    ) -> Glance:
        """What ``glance`` makes of the global encoder's ``features``."""
        pooled = features.pooled.astype(jnp.float32)
        global_logits = self.global_head(pooled, keys, train)
        exits = self.glance_exits(features.pooled, global_logits, keys, train)
        return Glance(exits.memory, pooled, features.maps, exits.exit_logits, global_logits, indices)

    def policies(
        self, features: Array, maps: Array, train: bool = False, draws: Draws | None = None
    ) -> Policies:
        """Both policies on the glance's ``features`` and ``maps``; a control runs no network."""
        maps = jax.lax.stop_gradient(maps)
        if self.spatial == "learned":
            actions = self.spatial_policy(maps, train)
        else:
            shape = (len(maps), 1 if self.box_per_video else self.num_glance, 2)
            positions = None if draws is None else draws.control_positions
            if positions is None:
                positions = jnp.full(shape, 0.5)
            actions = control_actions(positions, self._patch_action, gaussian=self.spatial == "gaussian")
        return Policies(frame_logits=self._frame_logits(features, train), actions=actions)

    def glance_frames(
        self, batch: VideoBatch, train: bool, draws: Draws | None
    ) -> tuple[Array, Array | None]:
        """Normalised glance frames ``[B, G, s, s, 3]``, and which candidates they are.

        Cut from the candidates, they are one of every N/G: a random one in training, the middle one otherwise.
        """
        frames, indices = batch.glance, None
        if frames is None:
            offsets = draws.glance_offsets if train and draws is not None else None
            indices = self._glance_indices(batch.frames.shape[0], offsets)
            frames = take_frames(batch.frames, indices)
        frames = normalize_frames(frames, self.dtype)
        shape = (*frames.shape[:2], self.glance_size, self.glance_size, 3)
        return jax.image.resize(frames, shape, "bilinear", antialias=False), indices

    def _glance_indices(self, batch_size: int, offsets: Array | None) -> Array:
        if self.num_candidates % self.num_glance:
            raise UserError(
                f"the batch has no glance frames, and num_glance={self.num_glance} cannot be cut evenly from "
                f"num_candidates={self.num_candidates}: sample them separately (VideoBatch.glance)"
            )
        stride = self.num_candidates // self.num_glance
        first = jnp.arange(self.num_glance, dtype=jnp.int32)[None] * stride
        step = jnp.full_like(first, stride // 2)
        if offsets is not None:
            step = jnp.floor(offsets * stride).astype(jnp.int32)
        return jnp.broadcast_to(first + step, (batch_size, self.num_glance))

    def _frame_logits(self, features: Array, train: bool) -> Array:
        if self.temporal == "learned":
            return self.temporal_policy(self._seen_by_policy(features), train)
        return jnp.zeros(features.shape[:2])

    def _seen_by_policy(self, x: Array) -> Array:
        return x if self.policy_trains_encoder else jax.lax.stop_gradient(x)

    def _proxy_logits(self, glance: Glance, policies: Policies) -> Array | None:
        """The proxy's logits ``[B, K]``, through which alone boxes learn then; None where they do not.

        It cuts each feature map by the box that its action stands for, and classifies the average.
        """
        if self.spatial != "learned" or self.spatial_estimator == "interpolation":
            return None
        maps = jax.lax.stop_gradient(glance.maps)
        batch, num_glance, height = maps.shape[:3]
        # P // 32 of 7 cells at the published sizes; 3 of 5 in X3D.
        crop_size = max(1, round(self.patch_size * height / self.image_size))
        low, high = (side * crop_size / self.patch_size for side in self._side_limits_px)
        boxes = boxes_from_actions(policies.actions, height, (low, high))
        boxes = jnp.broadcast_to(boxes, (batch, num_glance, 4))
        crops = crop_patches(maps, boxes, crop_size, self.crop)
        return self.proxy_head(crops.astype(jnp.float32).mean(axis=(1, 2, 3)))

    def choose_frames(
        self, policies: Policies, train: bool, draws: Draws | None
    ) -> tuple[Array, Array | None, Array]:
        """Chosen candidates ``[B, F]``, the straight-through gate ``[B, F]`` or None, and the quantiles τ."""
        weights = jax.nn.softmax(policies.frame_logits / self.temperature, axis=-1)
        thresholds = draws.thresholds if train and draws is not None else None
        selection = select_frames(weights, self.num_candidates, self.num_focus, thresholds)
        if draws is not None and draws.frame_order is not None:
            order = jnp.argsort(draws.frame_order, axis=1)[:, : self.num_focus]
            return jnp.sort(order, axis=1).astype(jnp.int32), None, selection.positions
        gate = None
        if train and self._straight_through("gate"):
            gate = straight_through_gate(weights, selection.indices, self.num_candidates)
        return selection.indices, gate, selection.positions

    def _straight_through(self, form: str) -> bool:
        return self.temporal_estimator == "straight_through" and self.straight_through == form

    def choose_boxes(self, policies: Policies, indices: Array) -> Array:
        """Boxes ``[B, F, 4]`` in pixels: actions interpolated linearly from the glance to the chosen frames."""
        actions = interpolate_actions(policies.actions, indices, self.num_candidates)
        return boxes_from_actions(actions, self.image_size, self._side_limits_px)

    @property
    def _side_limits_px(self) -> tuple[float, float]:
        low, high = self.side_limits
        return low * self.image_size, high * self.image_size

    @property
    def whole_frames(self) -> bool:
        """Every box is the whole frame, so that there is nothing to choose in space."""
        return self.side_limits[0] == 1

    @property
    def _patch_action(self) -> float:
        """The size action whose box has the patch's own side, so that random patches are not resampled."""
        low, high = self._side_limits_px
        return min(max((self.patch_size - low) / (high - low), 0.0), 1.0) if high > low else 1.0

    def _random_boxes(self, like: Array, positions: Array) -> Array:
        place = jnp.broadcast_to(positions, (*like.shape[:2], 2))
        actions = jnp.concatenate([place, jnp.full_like(place, self._patch_action)], axis=-1)
        return boxes_from_actions(actions, self.image_size, self._side_limits_px)

    def _look(
        self, batch: VideoBatch, indices: Array, positions: Array, passes: list[Array], train: bool
    ) -> list[Array]:
        """Features ``[B, F, D']`` for each set of boxes, all through the local encoder as one batch."""
        frames = normalize_frames(take_frames(batch.frames, indices), self.dtype)
        patches = [self.cut_patches(frames, boxes) for boxes in passes]
        if train and self._straight_through("pixels"):
            following = jnp.minimum(indices + 1, self.num_candidates - 1)
            next_frames = normalize_frames(take_frames(batch.frames, following), self.dtype)
            patches = [
                straight_through_pixels(patch, self.cut_patches(next_frames, boxes), positions)
                for patch, boxes in zip(patches, passes, strict=True)
            ]
        features = self.local_encoder(jnp.concatenate(patches), train).pooled
        return jnp.split(features, len(passes))

    def cut_patches(self, frames: Array, boxes: Array) -> Array:
        """Patches ``[B, F, P, P, 3]`` of normalised frames; boxes learn through these pixels by interpolation alone."""
        if self.whole_frames and self.patch_size == self.image_size:
            return frames
        if self.spatial_estimator != "interpolation":
            boxes = jax.lax.stop_gradient(boxes)
        return crop_patches(frames, boxes, self.patch_size, self.crop)

    def classify(
        self,
        glance: Glance,
        features: Array,
        gate: Array | None,
        boxes: Array,
        keys: Array | None,
        train: bool,
    ) -> PassOutput:
        """Exit and per-frame logits of local features ``[B, F, D']``."""
        if gate is not None:
            features = features * gate[..., None].astype(features.dtype)
        focus = self.focus_exits(features, glance.memory, keys, train)
        return PassOutput(
            exit_logits=jnp.concatenate([glance.exit_logits, focus], axis=1),
            local_logits=self.local_head(features, keys, train),
            boxes=boxes,
        )

    def stages(self) -> tuple[Stage, ...]:
        """Inference as the engine runs it: ``glance``, ``choose``, ``look``."""
        raise NotImplementedError

    @property
    def num_separate_glance(self) -> int | None:
        """Glance frames that a batch carries beside its candidates; None: the glance is cut from those."""
        return self.num_glance if self.separate_glance else None

    @property
    def glance_candidates(self) -> np.ndarray | None:
        """``[G]`` int32: the candidates that evaluation glances at; None when the glance comes separately."""
        if self.separate_glance:
            return None
        stride = self.num_candidates // self.num_glance
        return np.arange(self.num_glance, dtype=np.int32) * stride + stride // 2

    @property
    def draws_in_evaluation(self) -> bool:
        """A control chooses at random, so that evaluation needs ``draws`` too."""
        return self.spatial in ("random", "gaussian") or self.temporal == "random"

    def draws(self, key: Array) -> Draws:
        """All randomness of one video."""
        return policy_draws(self, key)

    def with_all_parameters(self) -> AdaFocus:
        """The model whose initialisation makes the parameters of every control of this one."""
        if self.whole_frames:
            return self
        return self.clone(spatial="learned", spatial_estimator="proxy", temporal="learned")

    @classmethod
    def parameter_groups(cls, whole_frames: bool) -> dict[str, str]:
        """Names of the groups that are trained alike, in order, to a regex of their parameters' paths."""
        groups = {
            "glance": "global_(encoder|head|final_head)/.*",
            "focus": "local_(encoder|head|final_head)/.*",
        }
        policies = ("proxy_head", "spatial_policy", "temporal_policy")
        return (
            groups
            if whole_frames
            else groups | {name.removesuffix("_head"): f"{name}/.*" for name in policies}
        )

    def size_complaints(self) -> Iterator[str]:
        """What does not fit together, in words."""
        return size_complaints(self)

    @property
    def num_rounds(self) -> int:
        """T1, the rounds of the temporal loss."""
        return num_rounds(self.num_glance)

    def _temporal_logits(self, glance: Glance, policies: Policies, draws: Draws | None) -> Array | None:
        if self.temporal_estimator == "straight_through" or self.temporal != "learned":
            return None
        weights = jax.nn.softmax(policies.frame_logits, axis=-1)
        rounds = self.num_rounds
        if self.temporal_estimator == "exact":
            coefficients = exact_coefficients(weights, rounds)
        elif draws is None or draws.gumbel is None:
            return None
        else:
            coefficients = monte_carlo_coefficients(weights, rounds, draws.gumbel)
        return expected_logits(coefficients, self._seen_by_policy(glance.global_logits))

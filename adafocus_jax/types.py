"""The shape legend and the named values that travel between modules.

Letters in every signature of this package:

==========  =====================================================================
``B``       videos in a batch
``N``       candidate frames per video, uniform over it
``G``       glance frames, seen by the global encoder
``F``       focus frames, chosen among the N, seen by the local encoder as patches
``H W``     height and width of a frame in pixels
``P``       side of a resampled patch in pixels
``K``       classes
``E``       exits: classifier outputs along the way, cheapest first
``D``       width of a feature vector
``h w``     height and width of a feature map
==========  =====================================================================

Layout is channels last. A box is ``(top, left, height, width)`` in pixels of the frame that it cuts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import struct

Array = jax.Array
BatchArray = Any
"""NumPy on the host, where batches are made; ``jax.Array`` on the device."""


@struct.dataclass
class VideoBatch:
    """A batch of videos, as the pipeline yields it and the models take it.

    ``frames`` are uint8 RGB in 0…255 (normalised inside the model) or floats that are normalised already.
    """

    frames: BatchArray
    """``[B, N, H, W, 3]`` uint8 or float: the candidate frames."""
    glance: BatchArray = None
    """``[B, G, H, W, 3]`` uint8 or float: glance frames sampled separately; None cuts them from ``frames``."""
    label: BatchArray = None
    """``[B]`` int32 in 0…K−1: the class to train on (one drawn at random where a video has several)."""
    labels: BatchArray = None
    """``[B, L]`` int32, −1 pads: all classes of each video, for metrics."""
    mask: BatchArray = None
    """``[B]`` bool: False marks the padding that fills the last evaluation batch."""
    index: BatchArray = None
    """``[B]`` int32: position of the record in its split."""


@struct.dataclass
class Draws:
    """All randomness of one training step, so that a test can hand in its own. See ``models.sample_draws``.

    None leaves the randomness out, as evaluation does.
    """

    glance_offsets: Array | None = None
    """``[B, G]`` float32, uniform in [0, 1): which candidate of each of the G segments is glanced at."""
    thresholds: Array | None = None
    """``[B, F]`` float32, uniform in [0, 1): the u_k of frame selection."""
    positions: Array | None = None
    """``[B, F or 1, 2]`` float32, uniform in [0, 1): (y, x) actions of the random boxes (1: one box per video).
    None: no pass with random boxes."""
    gumbel: Array | None = None
    """``[B, M, G]`` float32, standard Gumbel: M random orders of the glance frames (``monte_carlo`` only)."""
    control_positions: Array | None = None
    """``[B, G or 1, 2]`` float32, uniform in [0, 1): where the boxes of a ``random`` or ``gaussian`` control lie."""
    frame_order: Array | None = None
    """``[B, N]`` float32, uniform: the F smallest are the frames of the ``random`` temporal control."""
    dropout: Array | None = None
    """``[B]`` random keys, one per video; None leaves dropout out."""


@struct.dataclass
class PassOutput:
    """What depends on the boxes: one of the two passes of a training step."""

    exit_logits: Array
    """``[B, E, K]`` float32."""
    local_logits: Array | None
    """``[B, F, K]`` float32: the per-frame head on the local encoder; None for a plain classifier."""
    boxes: Array
    """``[B, F, 4]`` float32, pixels: top, left, height, width."""


@struct.dataclass
class ModelOutput:
    """Everything one forward pass yields. Logits are float32 and unnormalised."""

    logits: Array
    """``[B, K]``: the prediction (the last exit)."""
    exit_logits: Array
    """``[B, E, K]``, cheapest exit first; E: G + F in ``uni_adafocus``, 2 in its other variants, 1 in a classifier."""
    global_logits: Array | None
    """``[B, G, K]``: the per-frame head on the global encoder; None for a plain classifier."""
    local_logits: Array | None
    """``[B, F, K]``: the per-frame head on the local encoder; None for a plain classifier."""
    temporal_logits: Array | None
    """``[B, K]``: expected logits under frame selection (paper, Monte-Carlo); None when not asked for."""
    spatial_logits: Array | None
    """``[B, K]``: logits of the spatial proxy; None when boxes are not learned."""
    frame_weights: Array
    """``[B, G]``, rows sum to 1: temporal policy, softmax at temperature 1."""
    frame_indices: Array
    """``[B, F]`` int32, increasing, in 0…N−1: the chosen candidates."""
    glance_indices: Array | None
    """``[B, G]`` int32 in 0…N−1: the candidates glanced at; None when the glance came separately."""
    actions: Array
    """``[B, G or 1, 4]`` in (0, 1): (y, x, size_y, size_x) per glance frame, or one per video."""
    boxes: Array
    """``[B, F, 4]``, pixels: top, left, height, width of each chosen patch."""
    glance_features: Array
    """``[B, G, D]``: pooled features of the global encoder."""
    policy: PassOutput | None = None
    """Training only: the pass with learned boxes (its fields are also above)."""
    random: PassOutput | None = None
    """Training only: the pass with random boxes; the same as ``policy`` where boxes are whole frames."""
    average_frames: bool = struct.field(pytree_node=False, default=False)
    """The loss takes frame-averaged logits and the last exit alone, instead of every frame and every exit."""


class ClassScore(NamedTuple):
    """A class and how probable it is."""

    name: str
    probability: float
    """In [0, 1]."""


_NOTHING, _NO_INDICES = partial(np.zeros, 0), partial(np.zeros, 0, int)


@dataclass(frozen=True, eq=False)
class VideoPrediction:
    """What a model says of one video, and what it looked at to say so. On the host: all arrays are NumPy.

    Only what was computed up to the exit at which the video left is there: a video that left after the glance has no
    focus frames, F = 0.
    """

    name: str
    """Where the video came from: a path, or the name in its record."""
    classes: tuple[str, ...]
    """K class names."""
    exit: int = -1
    """The exit at which it left, in 0…E−1; E−1 without early exit; −1 where there is an ``error``."""
    exit_logits: np.ndarray = field(default_factory=partial(np.zeros, (0, 0)))
    """``[X, K]`` float32, exit < X ≤ E: of the exits up to there, cheapest first; NaN where not asked for."""
    exit_gflops: np.ndarray = field(default_factory=_NOTHING)
    """``[E]`` cost of leaving at each exit of the model, in giga multiply-adds."""
    frame_weights: np.ndarray = field(default_factory=_NOTHING)
    """``[G]`` float32, sums to 1: the temporal policy; ``[0]`` where it did not run."""
    glance_indices: np.ndarray = field(default_factory=_NO_INDICES)
    """``[G]`` int in 0…N−1: candidates glanced at; the nearest in time where the glance is sampled separately."""
    frame_indices: np.ndarray = field(default_factory=_NO_INDICES)
    """``[F]`` int in 0…N−1, increasing: candidates that the local encoder saw patches of."""
    boxes: np.ndarray = field(default_factory=partial(np.zeros, (0, 4)))
    """``[F, 4]`` float32, pixels of ``frames``: top, left, height, width of each patch."""
    candidate_numbers: np.ndarray = field(default_factory=_NO_INDICES)
    """``[N]`` int: the number of each candidate among the frames of the video, from 0."""
    candidate_times_sec: np.ndarray = field(default_factory=_NOTHING)
    """``[N]`` float: when each candidate stands in the video, in seconds."""
    frames: np.ndarray | None = None
    """``[N, H, W, 3]`` uint8: the candidates as the model saw them; None where they were not asked for."""
    segment_sec: tuple[float, float] | None = None
    """Start and end of the stretch of the video that this is a prediction of; None: all of it."""
    seconds: float = math.nan
    """From the moment its pixels were asked for to the prediction, waiting for other videos included."""
    error: str | None = None
    """Why there is no prediction."""
    extra: dict[str, object] = field(default_factory=dict)
    """Free for callers, e.g. the true class or the true boxes of a synthetic video."""

    @property
    def probabilities(self) -> np.ndarray:
        """``[K]`` float64, sums to 1: softmax of the logits of the exit that was taken; ``[0]`` after an ``error``."""
        return self.exit_probabilities[self.exit] if self.error is None else np.zeros(0)

    @property
    def exit_probabilities(self) -> np.ndarray:
        """``[X, K]`` float64: softmax of the logits of every exit up to there; NaN where not asked for."""
        logits = self.exit_logits.astype(np.float64)
        scores = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
        return scores / scores.sum(axis=1, keepdims=True)

    @property
    def gflops(self) -> float:
        """What this prediction cost, in giga multiply-adds; NaN after an ``error``."""
        return float(self.exit_gflops[self.exit]) if self.error is None else math.nan

    @property
    def frame_numbers(self) -> np.ndarray:
        """``[F]`` int: the numbers of the focus frames among the frames of the video, from 0."""
        return self.candidate_numbers[self.frame_indices]

    @property
    def times_sec(self) -> np.ndarray:
        """``[F]`` float: when each focus frame stands in the video, in seconds."""
        return self.candidate_times_sec[self.frame_indices]

    def top(self, count: int = 5) -> list[ClassScore]:
        """The ``count`` most probable classes at the exit that was taken, the most probable first."""
        best = np.argsort(-self.probabilities, kind="stable")[:count]
        return [ClassScore(self.classes[k], float(self.probabilities[k])) for k in best]

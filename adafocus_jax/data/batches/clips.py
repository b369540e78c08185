"""From the chosen frames of one video to a clip as the model sees it."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from adafocus_jax.data.batches.cuts import SCALES, Cut, apply_cut, eval_cut, random_cut, reduced
from adafocus_jax.data.batches.sampling import segment_indices
from adafocus_jax.data.datasets.mirrored import mirrored_labels, one_sided
from adafocus_jax.data.media.frames import Frame
from adafocus_jax.errors import UserError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClipSpec:
    """What a clip is: how many frames of which size, and how they are cut.

    Raises:
      UserError: the test crop is larger than the resized frame, a number is not positive, or labels are to be
        mirrored and clips are not.
    """

    num_candidates: int
    """N: frames per clip, one of each of N equal segments of the video."""
    image_size: int
    """S: side of the square frames in pixels."""
    resize: int | None = None
    """Short side at test, of which the middle S² pixels are taken; None: S · 256 / 224."""
    num_glance: int | None = None
    """G: glance frames sampled separately from the video; None: the model takes them from the candidates."""
    flip: bool = True
    """Mirror half of the training clips. Not where left and right have meaning, unless ``flip_labels`` knows it."""
    scales: tuple[float, ...] = SCALES
    """Sides of the training crop as fractions of the short side; ``(1.0,)`` leaves position and flip alone."""
    place: float = 0.5
    """Where the test crop lies along the width of a frame: 0 left edge … 1 right edge."""
    augment: bool = True
    """False cuts training clips as at test (their frames are still drawn at random)."""
    flip_labels: tuple[int, ...] | None = None
    """What class a mirrored clip of each class is of (``mirrored.mirrored_labels``); None: the same."""

    def __post_init__(self) -> None:
        for name in ("num_candidates", "image_size", "num_glance"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise UserError(f"{name} {value} is not valid: give 1 or more")
        if self.short_side < self.image_size:
            raise UserError(
                f"resize {self.resize} is less than image_size {self.image_size}: give at least that"
            )
        if not 0 <= self.place <= 1:
            raise UserError(f"place {self.place} is not valid: give a share of the width, in [0, 1]")
        if not self.scales or not all(0 < scale <= 1 for scale in self.scales):
            raise UserError(
                f"scales {self.scales} are not valid: give fractions of the short side, in (0, 1]"
            )
        if self.flip_labels is not None and not self.flip:
            raise UserError(
                "flip_labels is for mirrored clips and flip is False: set flip, or drop flip_labels"
            )

    @property
    def short_side(self) -> int:
        """Short side of a test frame in pixels before the centre crop."""
        return self.image_size * 256 // 224 if self.resize is None else self.resize

    def cut(self, height: int, width: int, rng: np.random.Generator | None) -> Cut:
        """How frames of ``height × width`` are cut: drawn from ``rng``, or as at test if that is None."""
        if rng is None or not self.augment:
            size = {"short_side": self.short_side, "crop": self.image_size}
            return eval_cut(height, width, **size, place=self.place)
        return random_cut(height, width, rng, scales=self.scales, flip=self.flip)


def warn_of_flips(spec: ClipSpec, traits: Mapping[str, Any], classes: Sequence[str] = ()) -> None:
    """Warns where training clips are mirrored though left and right have meaning.

    By the ``traits`` of the data set, and by its class names: classes that mirroring exchanges, or that have left or
    right in their name and no counterpart.

    Raises:
      UserError: labels are to be exchanged, and no two classes differ in left and right.
    """
    pairs = [number for number, other in enumerate(mirrored_labels(classes)) if number != other]
    alone = one_sided(classes)
    if spec.flip_labels is not None and classes and not pairs:
        raise UserError(
            "data.flip_labels=True, but no two classes differ in left and right alone, such as swipe_left and "
            f"swipe_right: of {len(classes)} classes the first is {classes[0]!r}; set data.flip=False instead"
        )
    if not spec.flip:
        return
    can_relabel = traits.get("relabel", False) or bool(pairs)
    if not traits.get("flip", True) and not (can_relabel and spec.flip_labels):
        reason = "left and right have meaning in this data"
    elif pairs and not spec.flip_labels:
        reason = f"{len(pairs)} classes differ in left and right, such as {classes[pairs[0]]!r}"
    elif alone:
        reason = f"the class {alone[0]!r} has no counterpart to exchange it with"
        can_relabel = False
    else:
        return
    also = ", or data.flip_labels=True, which exchanges the labels of mirrored clips" if can_relabel else ""
    log.warning("%s, and clips are mirrored: set data.flip=False%s", reason, also)


class ClipWriter:
    """Writes the clips of one video into memory that is there: what to choose, how to cut, where it goes.

    For ``Record.read`` and ``Video.read``: ``for frame in video.read(writer.choose, writer.reduce):
    writer.write(frame)``. A frame that is wanted more than once is decoded and cut once.
    """

    def __init__(self, spec: ClipSpec, clips: Sequence[np.ndarray], rng: np.random.Generator | None) -> None:
        """``clips``: ``[n, S, S, 3]`` uint8 each, n frames spread evenly; ``rng`` None: as at test."""
        self._spec, self._clips, self._rng = spec, clips, rng
        self.places: dict[int, list[np.ndarray]] = {}
        """Number of a frame to where it goes, once ``choose`` was called."""
        self._scratch = np.empty_like(clips[0][0])
        self.cut: Cut
        """The cut, once ``reduce`` was called."""

    def choose(self, num_frames: int) -> list[int]:
        """The numbers of the frames wanted, each once, increasing."""
        places = defaultdict(list)
        for clip in self._clips:
            for number, out in zip(segment_indices(num_frames, len(clip), self._rng), clip, strict=True):
                places[int(number)].append(out)
        self.places = dict(places)
        return sorted(places)

    def reduce(self, height: int, width: int) -> int:
        """Settles the cut of frames of ``height × width``, and by what factor they may come smaller."""
        cut = self._spec.cut(height, width, self._rng)
        factor, self.cut = reduced(cut, height, width, self._spec.image_size)
        return factor

    def write(self, frame: Frame) -> None:
        """Cuts a frame into its places."""
        first, *others = self.places[frame.number]
        apply_cut(frame.pixels, self.cut, first, self._scratch)
        for place in others:
            np.copyto(place, first)

"""How well chosen frames and boxes hit a figure whose place is known, and how well chance would."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

Box = Sequence[float]
"""Top, left, height, width in pixels."""


@dataclass(frozen=True)
class BoxScore:
    """Means over all chosen frames that hold the figure; 0 where there is none."""

    figure_covered: float
    """Share of the figure's box that lies in the patch, 0…1."""
    centre_in_patch: float
    """Share of frames in which the centre of the figure's box lies in the patch, 0…1."""


@dataclass(frozen=True)
class PolicyScore:
    """Where and when a policy looked, and controls of the same cost."""

    num_videos: int
    frames_with_figure: float
    """Share of the chosen frames that hold the figure, 0…1."""
    frames_with_figure_uniform: float
    """The same for as many frames spread uniformly over the candidates."""
    learned: BoxScore
    """The policy's boxes."""
    random: BoxScore
    """Expectation over boxes of the same sizes at uniformly random places, in the same frames."""
    centre: BoxScore
    """Boxes of the same sizes in the middle of the frame, in the same frames."""
    frames_by_video: np.ndarray = field(compare=False)
    """``[V]`` float64: ``frames_with_figure`` of each video."""

    @property
    def figures(self) -> dict[str, float]:
        """The learned policies' and chance's, by name."""
        return {
            "figure_covered": self.learned.figure_covered,
            "figure_covered_random": self.random.figure_covered,
            "centre_in_patch": self.learned.centre_in_patch,
            "centre_in_patch_random": self.random.centre_in_patch,
            "frames_with_figure": self.frames_with_figure,
            "frames_with_figure_uniform": self.frames_with_figure_uniform,
        }


def source_frames(candidates: np.ndarray, num_candidates: int, num_frames: int) -> np.ndarray:
    """Where candidate i of N stands in a video of T frames: floor((i + ½)·T/N), int64.

    >>> source_frames(np.arange(4), num_candidates=4, num_frames=32)
    array([ 4, 12, 20, 28])
    """
    return (2 * np.asarray(candidates, np.int64) + 1) * num_frames // (2 * num_candidates)


def score_policy(
    boxes: np.ndarray,
    frame_indices: np.ndarray,
    truth: Sequence[Sequence[Box | None]],
    *,
    num_candidates: int,
    frame_size: tuple[int, int],
) -> PolicyScore:
    """Scores boxes ``[V, F, 4]`` (pixels) in candidates ``[V, F]`` (0…N−1) of V videos.

    ``truth``: per video and source frame the figure's box in the same pixels, None where it is not there.
    ``frame_size``: height and width of the frames in pixels.
    """
    count, num_focus = frame_indices.shape
    uniform = np.tile(source_frames(np.arange(num_focus), num_focus, num_candidates), (count, 1))
    figures = _figures(frame_indices, truth, num_candidates)
    there = ~np.isnan(figures[..., 0])
    patches, hit = np.asarray(boxes, np.float64)[there], figures[there]
    middle = patches.copy()
    middle[:, :2] = (np.asarray(frame_size) - patches[:, 2:]) / 2
    return PolicyScore(
        num_videos=count,
        frames_with_figure=float(there.mean()),
        frames_with_figure_uniform=float(
            (~np.isnan(_figures(uniform, truth, num_candidates)[..., 0])).mean()
        ),
        learned=_box_score(covered_share(patches, hit), centre_inside(patches, hit)),
        random=_box_score(*random_box_score(patches[:, 2:], hit, frame_size)),
        centre=_box_score(covered_share(middle, hit), centre_inside(middle, hit)),
        frames_by_video=there.mean(axis=1),
    )


def frames_by_colour(names: Sequence[str], score: PolicyScore) -> dict[str, float]:
    """``frames_with_figure`` over the videos of each colour, with which their names ``[V]`` begin, in their order."""
    shares = defaultdict(list)
    for name, share in zip(names, score.frames_by_video, strict=True):
        shares[name.partition("-")[0]].append(share)
    return {colour: float(np.mean(found)) for colour, found in sorted(shares.items())}


def covered_share(patches: np.ndarray, figures: np.ndarray) -> np.ndarray:
    """Share of each figure's area that its patch covers: two times ``[M, 4]`` → ``[M]`` in 0…1.

    >>> covered_share(np.array([[0, 0, 8, 8.0]]), np.array([[4, 4, 8, 8.0]]))
    array([0.25])
    """
    starts = np.maximum(patches[:, :2], figures[:, :2])
    ends = np.minimum(patches[:, :2] + patches[:, 2:], figures[:, :2] + figures[:, 2:])
    return (ends - starts).clip(0).prod(axis=1) / figures[:, 2:].prod(axis=1)


def centre_inside(patches: np.ndarray, figures: np.ndarray) -> np.ndarray:
    """Whether the centre of each figure lies in its patch: two times ``[M, 4]`` → bool ``[M]``.

    >>> centre_inside(np.array([[0, 0, 8, 8.0]]), np.array([[4, 4, 8, 8.0]]))
    array([ True])
    """
    offset = figures[:, :2] + figures[:, 2:] / 2 - patches[:, :2]
    return ((offset >= 0) & (offset <= patches[:, 2:])).all(axis=1)


def random_box_score(
    sizes: np.ndarray, figures: np.ndarray, frame_size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Expected covered share and chance of the centre, each ``[M]``, over uniformly random places inside.

    ``sizes [M, 2]`` (height, width); ``figures [M, 4]``. Rows and columns are independent. The overlap of
    [t, t+s] and [a, a+h] averages to (Q(S−s) − Q(0))/(S−s) over t in [0, S−s]; its antiderivative Q is a sum
    of four half squares.

    >>> covered, centre = random_box_score(np.array([[4, 8.0]]), np.array([[2, 0, 4, 8.0]]), (8, 8))
    >>> covered.item(), centre.item()    # rows by chance, columns always: (3/4 on average), 1
    (0.75, 1.0)
    """
    start, extent = figures[:, :2], figures[:, 2:]
    room = np.asarray(frame_size) - sizes
    shifts = np.stack([sizes - start, sizes - start - extent, -start, -start - extent])
    signs = np.array([1, -1, -1, 1])[:, None, None]

    def overlap(t: np.ndarray) -> np.ndarray:
        return (signs * (t + shifts).clip(0)).sum(axis=0)

    def antiderivative(t: np.ndarray) -> np.ndarray:
        return (signs * (t + shifts).clip(0) ** 2 / 2).sum(axis=0)

    fixed, none = room < 1e-6, np.zeros_like(room)
    safe = np.where(fixed, 1, room)
    mean = np.where(fixed, overlap(none), (antiderivative(safe) - antiderivative(none)) / safe)
    centre = start + extent / 2
    reach = (np.minimum(centre, safe) - (centre - sizes).clip(0)).clip(0) / safe
    return (mean / extent).prod(axis=1), np.where(fixed, 1, reach).prod(axis=1)


def _figures(
    frame_indices: np.ndarray, truth: Sequence[Sequence[Box | None]], num_candidates: int
) -> np.ndarray:
    """The figure's box in each chosen frame, ``[V, F, 4]``; NaN where it is not there."""
    nowhere = [np.nan] * 4
    return np.array(
        [
            [video[t] or nowhere for t in source_frames(row, num_candidates, len(video))]
            for row, video in zip(frame_indices, truth, strict=True)
        ]
    )


def _box_score(covered: np.ndarray, centre: np.ndarray) -> BoxScore:
    if not len(covered):
        return BoxScore(0.0, 0.0)
    return BoxScore(float(covered.mean()), float(centre.mean()))

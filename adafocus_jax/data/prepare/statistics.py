"""Statistics of records: videos, frames and classes of each split."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from adafocus_jax.data.prepare.verify import Contents

_MAX_BINS = 10


def split_statistics(contents: Contents, classes: tuple[str, ...]) -> dict[str, Any]:
    """Numbers of videos, frames and bytes of a split, the distribution of its lengths, and its class counts.

    Args:
      contents: of ``inspect_records``.
      classes: K class names.

    Returns:
      ``num_videos``, ``num_frames``, ``num_bytes`` (of JPEG); ``frames_per_video`` with ``min``, ``median``, ``max``
      and a ``histogram`` of ``edges [n + 1]`` and ``counts [n]``; ``mean_size``, height and width in pixels;
      ``videos_per_class`` by name.
    """
    lengths = _expand(contents.lengths) if contents.lengths else np.zeros(1, np.int64)
    sizes = _expand(contents.sizes) if contents.sizes else np.zeros((1, 2), np.int64)
    edges, counts = histogram(lengths)
    return {
        "num_videos": contents.num_videos,
        "num_frames": contents.num_frames,
        "num_bytes": contents.num_bytes,
        "frames_per_video": {
            "min": int(lengths.min()),
            "median": float(np.median(lengths)),
            "max": int(lengths.max()),
            "histogram": {"edges": edges, "counts": counts},
        },
        "mean_size": sizes.mean(axis=0).tolist(),
        "videos_per_class": {name: contents.labels[number] for number, name in enumerate(classes)},
    }


def histogram(values: np.ndarray) -> tuple[list[int], list[int]]:
    """Edges ``[n + 1]`` and counts ``[n]`` of integers, in up to ten bins of equal integer width, right edge excluded.

    >>> histogram(np.array([4, 5, 5, 7]))
    ([4, 5, 6, 7, 8], [1, 2, 0, 1])
    """
    low, high = int(values.min()), int(values.max())
    width = -(-(high + 1 - low) // _MAX_BINS)
    edges = list(range(low, high + width + 1, width))
    return edges, np.bincount((values - low) // width, minlength=len(edges) - 1).tolist()


def _expand(counter: Counter[Any]) -> np.ndarray:
    return np.repeat(np.array(list(counter), np.int64), list(counter.values()), axis=0)

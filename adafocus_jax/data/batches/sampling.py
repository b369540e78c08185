"""Which frames of a video stand for it."""

from __future__ import annotations

import numpy as np


def segment_indices(num_frames: int, num_segments: int, rng: np.random.Generator | None = None) -> np.ndarray:
    """One frame of each of ``num_segments`` equal segments: ``floor((j + r) * num_frames / num_segments)``.

    ``r`` is uniform in [0, 1) for each segment when ``rng`` is given (training), and 0.5 otherwise (test). A video
    with fewer frames than segments is sampled with repetition. Paper, implementation details.

    Returns:
      ``[num_segments]`` int64, not decreasing, in 0…num_frames−1.

    >>> segment_indices(48, 16)
    array([ 1,  4,  7, 10, 13, 16, 19, 22, 25, 28, 31, 34, 37, 40, 43, 46])
    >>> segment_indices(2, 5)
    array([0, 0, 1, 1, 1])
    """
    if num_frames < 1 or num_segments < 1:
        raise ValueError(f"need at least one frame and one segment, got {num_frames} and {num_segments}")
    offsets = np.full(num_segments, 0.5) if rng is None else rng.random(num_segments)
    places = (np.arange(num_segments) + offsets) * num_frames / num_segments
    # (j + r) may round up to j + 1, which would leave the video at the last segment.
    return np.minimum(np.floor(places).astype(np.int64), num_frames - 1)

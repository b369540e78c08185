"""One small prediction whose every colour is known."""

import numpy as np
import pytest

from adafocus_jax.types import VideoPrediction

CHOSEN = np.array([3, 9])
GLANCED = np.array([1, 4, 7, 10])


@pytest.fixture(scope="session")
def prediction() -> VideoPrediction:
    """12 plain frames of 64×48, each of its own grey; two chosen; three classes; three exits."""
    greys = 10 * np.arange(12, dtype=np.uint8)[:, None, None, None] + 60
    return VideoPrediction(
        name="some/where/clip.mp4",
        classes=("kick & <b>run</b>", "cost $5 & $6", "名前"),
        frames=np.broadcast_to(greys, (12, 64, 48, 3)).copy(),
        candidate_numbers=10 * np.arange(12) + 5,
        candidate_times_sec=(np.arange(12) + 0.5) / 3,
        exit_logits=np.array([[0, 1, 0], [1, 1, 0], [3, 0, 0]], np.float32),
        frame_weights=np.array([0.1, 0.4, 0.3, 0.2], np.float32),
        glance_indices=GLANCED,
        frame_indices=CHOSEN,
        boxes=np.array([[8, 4, 20, 24], [40, 20, 24, 28]], np.float32),
        exit_gflops=np.array([1.0, 2.0, 3.0]),
        exit=2,
    )

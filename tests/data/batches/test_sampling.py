import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adafocus_jax.data.batches.sampling import segment_indices

SIZES = {"num_frames": st.integers(1, 500), "num_segments": st.integers(1, 100)}


@given(**SIZES)
def test_at_test_time_the_middle_of_each_segment(num_frames, num_segments):
    indices = segment_indices(num_frames, num_segments)
    # The same formula in whole numbers: floor((2 j + 1) T / 2 n).
    assert indices.tolist() == [(2 * j + 1) * num_frames // (2 * num_segments) for j in range(num_segments)]


@given(**SIZES, seed=st.integers(0, 10))
def test_in_training_one_frame_of_each_segment(num_frames, num_segments, seed):
    indices = segment_indices(num_frames, num_segments, np.random.default_rng(seed))
    segments = np.arange(num_segments)
    assert (indices >= segments * num_frames // num_segments).all()
    assert (indices <= np.minimum((segments + 1) * num_frames / num_segments, num_frames - 1)).all()


class _AlmostOne:
    def random(self, size):
        return np.full(size, np.nextafter(1, 0))


def test_rounding_does_not_leave_the_video():
    assert segment_indices(3, 7, _AlmostOne()).max() == 2


def test_training_draws_are_uniform():
    rng = np.random.default_rng(0)
    draws = np.stack([segment_indices(16, 2, rng) for _ in range(4000)])
    counts = np.bincount(draws.ravel(), minlength=16)
    assert abs(counts - 500).max() < 5 * np.sqrt(500)


def test_no_frames_is_an_error():
    with pytest.raises(ValueError, match="at least one"):
        segment_indices(0, 4)

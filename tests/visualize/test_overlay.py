"""The drawn video, decoded again: boxes at the right time and place."""

from dataclasses import replace

import av
import numpy as np
import pytest

from adafocus_jax.visualize.overlay import FrameCrop, write_overlay


def read_mp4(path):
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


@pytest.fixture
def drawn(prediction, tmp_path):
    """4 s at 10 fps, plain grey 360×480; model frames of 64×48 lie at (20, 60), five times enlarged."""
    chosen = replace(prediction, times_sec=np.arange(12) / 3)  # candidates 3 and 9 at 1 s and 3 s
    video = np.full((40, 360, 480, 3), 150, np.uint8)
    write_overlay(tmp_path / "a.mp4", video, 10, chosen, FrameCrop(20, 60, 5), hold_sec=0.5)
    return read_mp4(tmp_path / "a.mp4")


def test_video_keeps_its_length_and_gains_a_caption(drawn):
    assert drawn.shape == (40, 396, 480, 3)
    assert drawn[0, 360:385].max() > 240  # white words
    assert np.abs(drawn[0, :360].astype(int) - 150).max() < 6


@pytest.mark.parametrize(("frame", "box"), [(10, (60, 80, 100, 120)), (30, (220, 160, 120, 140))])
def test_outside_of_the_box_goes_dark_at_the_chosen_frame(drawn, frame, box):
    top, left, height, width = box
    image = drawn[frame, :360].astype(int)
    inside = image[top + 8 : top + height - 8, left + 8 : left + width - 8]
    assert np.abs(inside - 150).max() < 8
    assert image[:40, :70].max() < 65
    edge = image[top + height // 2, left]
    assert edge[0] - edge[2] > 80  # orange


def test_the_box_stays_for_its_time_and_goes(drawn):
    outside = drawn[:, 340:350, 10:40].mean(axis=(1, 2, 3))
    assert (np.diff(outside[10:16]) > 10).all()
    held = [10, 11, 12, 13, 14, 30, 31, 32, 33, 34]
    np.testing.assert_allclose(np.delete(outside, held), 150, atol=4)


def test_time_line_moves_on(drawn):
    white = (drawn[:, -4, :].min(axis=-1) > 200).sum(axis=1)
    assert white[0] == 0
    assert white[-1] > 400


@pytest.mark.parametrize("size", [(33, 51), (361, 479)])
def test_odd_sizes_and_one_frame(prediction, tmp_path, size):
    write_overlay(tmp_path / "a.mp4", [np.zeros((*size, 3), np.uint8)], 29.97, prediction, FrameCrop())
    _, height, width, _ = read_mp4(tmp_path / "a.mp4").shape
    assert height % 2 == width % 2 == 0
    assert height > size[0]
    assert width >= size[1]

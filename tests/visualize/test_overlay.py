"""The drawn video, decoded again: boxes at the right frame and place, bars that move on; frames drawn as they come."""

from dataclasses import replace

import av
import numpy as np
import pytest

from adafocus_jax.visualize.overlay import FrameCrop, write_overlay
from adafocus_jax.visualize.style import CHOSEN, GLANCE_LIGHT, rgb

SIZES = {"short_side": 64, "image_size": 48}


def read_mp4(path):
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def plain(count, height=384, width=480, rate=10.0):
    """Grey frames: model frames of 48 × 48 lie in their middle, six times enlarged."""
    return ((number / rate, np.full((height, width, 3), 150, np.uint8)) for number in range(count))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory, prediction):
    """12 s at 10 fps; candidates 3 and 9 are frames 35 and 95, whatever their time says."""
    path = tmp_path_factory.mktemp("overlay") / "a.mp4"
    found = replace(prediction, candidate_times_sec=prediction.candidate_numbers / 10)
    write_overlay(path, plain(120), found, **SIZES)
    return read_mp4(path)


def share(image, colour, tolerance=40):
    return (np.abs(image.astype(int) - rgb(colour)).max(axis=-1) < tolerance).mean()


def test_video_keeps_its_length_and_gains_a_panel(drawn):
    assert drawn.shape[0] == 120
    assert drawn.shape[1] > 384 + 150
    assert drawn.shape[2] == 480
    assert np.abs(drawn[0, :384].astype(int) - 150).max() < 8
    assert drawn[0, 384:].max() > 240  # white words
    assert share(drawn[0, 384:], GLANCE_LIGHT) > 0.02  # the weights and the bars


@pytest.mark.parametrize(("frame", "box"), [(35, (96, 120, 120, 144)), (95, (288, 216, 96, 168))])
def test_outside_of_the_box_goes_dark_at_the_chosen_frame(drawn, frame, box):
    top, left, height, width = box
    image = drawn[frame, :384].astype(int)
    inside = image[top + 8 : top + height - 8, left + 8 : left + width - 8]
    assert np.abs(inside - 150).max() < 8
    assert image[:40, :70].max() < 65
    edge = image[top + height // 2, left]
    assert edge[0] - edge[2] > 80  # orange


def test_the_box_stays_for_its_time_and_goes(drawn):
    outside = drawn[:, 340:350, 10:40].mean(axis=(1, 2, 3))
    assert (np.diff(outside[35:42]) > 8).all()
    held = [*range(35, 41), *range(95, 101)]
    np.testing.assert_allclose(np.delete(outside, held), 150, atol=4)


def test_the_leading_bar_moves_from_exit_to_exit(drawn, prediction):
    """Of "kick", the verdict: 21%, 42% and 91%."""
    lengths = [share(drawn[number, 384:500, 220:], CHOSEN) for number in (10, 60, 110)]
    of_exits = prediction.exit_probabilities[:, 0]
    np.testing.assert_allclose(np.array(lengths) / lengths[-1], of_exits / of_exits[-1], atol=0.06)


def test_the_cursor_runs_along_the_time(drawn):
    white = (drawn[[0, 60, 119], -60:-40].min(axis=-1) > 200).any(axis=1)
    first, middle, last = (np.flatnonzero(row).mean() for row in white)
    assert first < 40
    assert abs(middle - 240) < 20
    assert last > 440


@pytest.mark.parametrize(
    ("size", "fps"), [((33, 51), 29.97), ((361, 479), 10), ((1080, 1920), 25), ((640, 90), 5)]
)
def test_any_size_and_one_frame(prediction, tmp_path, size, fps):
    one = replace(
        prediction,
        candidate_numbers=np.zeros(12, int),
        candidate_times_sec=np.zeros(12),
        frame_indices=prediction.frame_indices[:1],
        boxes=prediction.boxes[:1],
        exit=1,
    )
    write_overlay(tmp_path / "a.mp4", plain(1, *size), one, **SIZES)
    _, height, width, _ = read_mp4(tmp_path / "a.mp4").shape
    assert height % 2 == width % 2 == 0
    assert 320 <= min(width, 2000) <= 1300


def test_frames_are_drawn_as_they_come(prediction, monkeypatch):
    """No frame is asked for before the one before it was encoded."""
    asked = 0

    def counted():
        nonlocal asked
        for time_sec, frame in plain(30, 64, 64):
            asked += 1
            yield time_sec, frame

    ahead = []

    def write(path, frames, fps):
        for number, _ in enumerate(frames):
            ahead.append(asked - number)

    monkeypatch.setattr("adafocus_jax.visualize.overlay.write_mp4", write)
    write_overlay("none.mp4", counted(), prediction, **SIZES)
    assert len(ahead) == 30
    assert max(ahead) == 1

    assert FrameCrop.of_test(64, 64, **SIZES) == FrameCrop(8, 8, 1)

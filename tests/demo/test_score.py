"""Scores of boxes and frames against closed forms and against a fine grid."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adafocus_jax.demo.score import (
    centre_inside,
    covered_share,
    random_box_score,
    score_policy,
    source_frames,
)

sides = st.floats(1, 96)


def test_source_frames_follow_the_formula():
    for n, t in [(16, 32), (48, 100), (16, 5), (1, 7)]:
        expected = [int(np.floor((i + 0.5) * t / n)) for i in range(n)]
        np.testing.assert_array_equal(source_frames(np.arange(n), n, t), expected)


@pytest.mark.parametrize(
    ("patch", "covered", "inside"),
    [((10, 10, 20, 20), 1, True), ((0, 0, 96, 96), 1, True), ((20, 10, 20, 20), 0.5, True),
     ((20.1, 10, 20, 20), 0.495, False), ((30, 10, 20, 20), 0, False), ((15, 15, 10, 10), 0.25, True)],
)  # fmt: skip
def test_covered_share_and_centre(patch, covered, inside):
    patches, figures = np.array([patch], float), np.array([[10, 10, 20, 20.0]])
    np.testing.assert_allclose(covered_share(patches, figures), [covered])
    np.testing.assert_array_equal(centre_inside(patches, figures), [inside])


@settings(max_examples=30)
@given(
    size=st.tuples(sides, sides),
    figure=st.tuples(sides, sides),
    at=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_random_boxes_agree_with_the_mean_over_a_fine_grid_of_places(size, figure, at):
    start = np.array(at) * (96 - np.array(figure))
    covered, centre = random_box_score(np.array([size]), np.array([[*start, *figure]]), (96, 96))
    share, chance = 1.0, 1.0
    for s, a, h in zip(size, start, figure, strict=True):
        t = (np.arange(10000) + 0.5) / 10000 * (96 - s)
        share *= (np.minimum(t + s, a + h) - np.maximum(t, a)).clip(0).mean() / h
        chance *= ((t <= a + h / 2) & (a + h / 2 <= t + s)).mean()
    assert covered[0] == pytest.approx(share, abs=1e-3)
    assert centre[0] == pytest.approx(chance, abs=1e-3)


def test_boxes_as_large_as_the_frame_cover_all():
    figures = np.array([[10, 20, 20, 20.0], [0, 0, 96, 96]])
    covered, centre = random_box_score(np.full((2, 2), 96.0), figures, (96, 96))
    np.testing.assert_allclose(covered, 1)
    np.testing.assert_allclose(centre, 1)


def scene(boxes):
    """Two videos of 32 frames; the figure stands at (10, 10) in frames 0…7 of the first, 8…15 of the second."""
    figure = [10.0, 10.0, 20.0, 20.0]
    truth = [[figure if first <= t < first + 8 else None for t in range(32)] for first in (0, 8)]
    indices = np.array([[0, 3, 15], [5, 8, 9]])  # source frames 1, 7, 31 and 11, 17, 19
    return score_policy(np.array(boxes, float), indices, truth, num_candidates=16, frame_size=(96, 96))


def test_score_counts_only_frames_with_the_figure():
    hit, half, miss = [5, 5, 30, 30], [20, 10, 20, 20], [60, 60, 30, 30]
    score = scene([[hit, half, miss], [hit, miss, miss]])
    assert score.num_videos == 2
    assert score.frames_with_figure == pytest.approx(3 / 6)
    assert score.frames_with_figure_uniform == pytest.approx(1 / 6)  # 2, 8, 13 of 16: frames 5, 17, 27
    assert score.learned.figure_covered == pytest.approx((1 + 0.5 + 1) / 3)
    assert score.learned.centre_in_patch == 1
    assert score.centre.figure_covered == 0
    assert score.centre.centre_in_patch == 0
    assert 0 < score.random.figure_covered < score.learned.figure_covered


def test_controls_depend_on_sizes_alone():
    here, there = scene([[[5, 5, 30, 40]] * 3] * 2), scene([[[50, 40, 30, 40]] * 3] * 2)
    assert (here.random, here.centre) == (there.random, there.centre)
    assert here.learned != there.learned


def test_no_chosen_frame_with_the_figure_scores_zero():
    score = score_policy(
        np.ones((1, 2, 4)), np.array([[0, 1]]), [[None] * 8], num_candidates=4, frame_size=(8, 8)
    )
    assert score.frames_with_figure == 0
    assert score.learned.figure_covered == score.random.figure_covered == score.centre.centre_in_patch == 0

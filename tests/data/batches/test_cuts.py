import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adafocus_jax.data.batches.cuts import SCALES, Cut, apply_cut, eval_cut, random_cut
from adafocus_jax.data.media.resize import resize, scaled_to_short_side

SIDES = st.integers(1, 400)


@given(height=SIDES, width=SIDES, seed=st.integers(0, 20))
def test_random_cut_keeps_to_the_authors_rules(height, width, seed):
    cut = random_cut(height, width, np.random.default_rng(seed))
    sides = [max(1, int(min(height, width) * scale)) for scale in SCALES]
    assert (cut.height, cut.width) == (height, width)
    steps = {
        abs(i - j)
        for i, a in enumerate(sides)
        for j, b in enumerate(sides)
        if (a, b) == (cut.crop_height, cut.crop_width)
    }
    assert min(steps) <= 1
    assert 0 <= cut.top <= height - cut.crop_height
    assert 0 <= cut.left <= width - cut.crop_width


def test_thirteen_places_ten_shapes_and_both_flips_are_equally_likely():
    rng = np.random.default_rng(0)
    cuts = [random_cut(256, 340, rng) for _ in range(6000)]
    shapes = {(cut.crop_height, cut.crop_width) for cut in cuts}
    sides = (256, 224, 192, 168)
    assert shapes == {(a, b) for i, a in enumerate(sides) for j, b in enumerate(sides) if abs(i - j) <= 1}
    small = [cut for cut in cuts if (cut.crop_height, cut.crop_width) == (192, 168)]
    assert {(c.top, c.left) for c in small} == {
        (64 * down // 4, 172 * right // 4) for down in range(5) for right in range(5) if down % 2 == right % 2
    }
    assert abs(np.mean([cut.flip for cut in cuts]) - 0.5) < 0.03


def test_full_scale_leaves_the_flip_alone():
    rng = np.random.default_rng(0)
    cuts = {random_cut(96, 96, rng, scales=(1.0,)) for _ in range(40)}
    assert cuts == {Cut(96, 96, 0, 0, 96, 96, False), Cut(96, 96, 0, 0, 96, 96, True)}
    assert not any(random_cut(96, 96, rng, flip=False).flip for _ in range(40))


def test_cut_crops_and_mirrors_exactly():
    frame = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)
    out = np.empty((4, 4, 3), np.uint8)
    apply_cut(frame, Cut(6, 8, 1, 2, 4, 4), out)
    np.testing.assert_array_equal(out, frame[1:5, 2:6])
    apply_cut(frame, Cut(6, 8, 1, 2, 4, 4, flip=True), out)
    np.testing.assert_array_equal(out, frame[1:5, 2:6][:, ::-1])


@pytest.mark.parametrize(("height", "width"), [(480, 640), (640, 480), (97, 33), (256, 256), (5, 300)])
def test_eval_cut_takes_the_middle_of_the_resized_frame(height, width):
    cut = eval_cut(height, width, short_side=32, crop=28)
    assert min(cut.height, cut.width) == 32
    assert abs(cut.width / cut.height - width / height) <= 0.5 * max(1, width / height) / 32
    assert (cut.top, cut.left) == ((cut.height - 28) // 2, (cut.width - 28) // 2)
    sides = [eval_cut(height, width, short_side=32, crop=28, place=place) for place in (0.0, 1.0)]
    assert [side.left for side in sides] == [0, cut.width - 28]
    assert {side.top for side in sides} == {cut.top}


def test_shrinking_averages_and_enlarging_interpolates():
    stripes = np.zeros((8, 8, 3), np.uint8)
    stripes[:, ::2] = 200
    assert (resize(stripes, 4, 4) == 100).all()
    ramp = np.repeat(np.array([[0], [100]], np.uint8)[:, :, None], 3, axis=2)
    np.testing.assert_array_equal(resize(ramp, 4, 1)[:, 0, 0], [0, 25, 75, 100])
    assert resize(stripes, 8, 8) is stripes


@given(height=SIDES, width=SIDES, short_side=st.integers(1, 300))
def test_short_side_is_met_exactly(height, width, short_side):
    assert min(scaled_to_short_side(height, width, short_side)) == short_side

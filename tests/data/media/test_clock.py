import pytest
from hypothesis import given
from hypothesis import strategies as st

from adafocus_jax.data.media.clock import Clock


def times(stamps, *, step=0.1, duration=0.1, may_jump=True):
    clock, seen = Clock(step, may_jump=may_jump), []
    for stamp in stamps:
        clock.show(stamp, duration)
        seen.append(clock.time_sec)
    return seen


@pytest.mark.parametrize(
    ("stamps", "expected"),
    [
        ([5.0, 5.1, 5.2], [0, 0.1, 0.2]),
        ([None, None, None], [0, 0.1, 0.2]),
        ([5.0, None, 5.2], [0, 0.1, 0.2]),
        ([5.0, 5.1, 0.0, 0.1], [0, 0.1, 0.2, 0.3]),
        ([5.0, 5.1, 0.0, 0.1, 7.0, 7.1, 3.0], [0, 0.1, 0.2, 0.3, 7.2, 7.3, 7.4]),
        ([5.0, 5.1, 95443.7, 95443.8], [0, 0.1, 0.2, 0.3]),
        ([95443.6, 95443.7, 0.0, 0.1], [0, 0.1, 0.2, 0.3]),
        ([5.0, 5.1, 5.3, 5.2, 5.4], [0, 0.1, 0.3, 0.3, 0.4]),
    ],
    ids=["start", "no stamps", "one has none", "anew", "twice", "ahead", "wrapped", "out of order"],
)
def test_time_goes_on(stamps, expected):
    assert times(stamps) == pytest.approx(expected)


def test_a_long_gap_counts_where_the_container_has_an_index():
    assert times([0.0, 0.1, 20.0], may_jump=False) == pytest.approx([0, 0.1, 20])
    assert times([0.0, 20.0, 20.1], duration=20.0) == pytest.approx([0, 20, 20.1])


def test_the_last_frame_lasts_as_long_as_it_says():
    clock = Clock(0.1, may_jump=False)
    clock.show(3.0, 0.0)
    assert clock.until_sec == pytest.approx(0.1)
    clock.show(3.1, 2.5)
    assert clock.until_sec == pytest.approx(2.6)


@given(st.lists(st.none() | st.floats(-1e6, 1e6), min_size=1), st.booleans())
def test_time_never_goes_back(stamps, may_jump):
    seen = times(stamps, may_jump=may_jump)
    assert seen == sorted(seen)
    assert seen[0] == 0

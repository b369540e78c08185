import pytest

from adafocus_jax.data.datasets.mirrored import mirrored_labels, one_sided

SPELLINGS = (
    *(
        "swipe_{}",
        "Swipe{}",
        "{} arm",
        "{}_arm",
        "{}-arm",
        "{}Arm",
        "arm.{}",
        "turn{}2",
        "TURN_{}",
        "from {} side",
    ),
    *("swipe{}", "{}ward", "{}wards"),
)


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("style", [str.lower, str.capitalize, str.upper])
def test_left_and_right_in_every_spelling(spelling, style):
    left, right = (spelling.format(style(word)) for word in ("left", "right"))
    assert mirrored_labels(("stop", left, "upright", right)) == (0, 3, 2, 1)
    assert one_sided((left, right)) == ()


def test_other_pairs():
    assert mirrored_labels(("hand L", "hand R", "LH", "RH")) == (1, 0, 3, 2)
    assert mirrored_labels(("turn clockwise", "turn anti-clockwise", "Counterclockwise", "Clockwise")) == (
        1,
        0,
        3,
        2,
    )


def test_what_has_no_counterpart_stays_itself():
    classes = (
        "From left to right",
        "Left-handed",
        "from RIGHT to left",
        "brightly",
        "Turning right",
        "L",
        "cleft",
    )
    assert mirrored_labels(classes) == (2, 1, 0, 3, 4, 5, 6)
    assert one_sided(classes) == ("Left-handed", "Turning right")
    assert one_sided(("look left and right", "right/left")) == ()

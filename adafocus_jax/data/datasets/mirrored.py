"""Classes that mirroring a video exchanges, such as those of its left and its right."""

from __future__ import annotations

import re
from collections.abc import Sequence

_SWAPS = {"left": "right", "right": "left", "l": "r", "r": "l", "lh": "rh", "rh": "lh"}
_CLOCKWISE = "clockwise"
_COUNTER = re.compile(r"(counter|anti)[\s_-]*clockwise")
# Words: runs of letters of one case, with a capital before small ones, as in ``turnLeft`` and ``TURN_LEFT2``.
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[^\W\d_]+")
_SYMMETRIC = re.compile(
    r"\b(left[\W_]*(and|or|n|&|/|-)?[\W_]*right|right[\W_]*(and|or|n|&|/|-)?[\W_]*left)\b"
)


def mirrored_labels(classes: Sequence[str]) -> tuple[int, ...]:
    """The class that each class becomes when its video is mirrored: the one with left and right exchanged.

    The words may be written in any case and any of the usual spellings (``swipe_left``, ``TurnLeft``, ``left-arm``,
    ``swipeleft``, ``arm_L``); clockwise and counterclockwise are exchanged, too. A class whose counterpart is not a
    class stays itself: ``one_sided`` names those.

    >>> mirrored_labels(("Swiping Left", "Swiping Right", "Stop", "Pushing from left to right"))
    (1, 0, 2, 3)
    >>> mirrored_labels(("TurnLeft", "TurnRight", "arm_L", "arm_R", "bright", "Clockwise", "counter-clockwise"))
    (1, 0, 3, 2, 4, 6, 5)
    """
    numbers = {_key(name): number for number, name in enumerate(classes)}
    found = []
    for number, name in enumerate(classes):
        others = (numbers.get(key) for key in _mirrored_keys(name))
        found.append(next((other for other in others if other is not None), number))
    # An exchange goes both ways: what does not come back is no counterpart.
    return tuple(other if found[other] == number else number for number, other in enumerate(found))


def one_sided(classes: Sequence[str]) -> tuple[str, ...]:
    """The classes with a left or right in their name whose counterpart is not a class.

    >>> one_sided(("left arm", "right arm", "right hook", "left and right", "brightly"))
    ('right hook',)
    """
    pairs = mirrored_labels(classes)
    return tuple(
        name
        for number, name in enumerate(classes)
        if pairs[number] == number
        and {"left", "right"} & {word.casefold() for word in _WORD.findall(name)}
        and not _SYMMETRIC.search(name.casefold())
    )


def _key(name: str) -> str:
    """A name as it compares: without case, spaces and signs, clockwise in one spelling."""
    return re.sub(r"[\W_]+", "", _COUNTER.sub("counterclockwise", name.casefold()))


def _mirrored_keys(name: str) -> list[str]:
    """The keys that the counterpart may have, the likeliest first; none that is the name's own."""
    words = _WORD.sub(lambda word: _SWAPS.get(word[0].casefold(), word[0]), name)
    letters = re.sub("left|right", lambda word: _SWAPS[word[0]], name.casefold())
    turned = (
        _COUNTER.sub("\0", words.casefold()).replace(_CLOCKWISE, "counterclockwise").replace("\0", _CLOCKWISE)
    )
    return [key for key in map(_key, (turned, letters)) if key != _key(name)]

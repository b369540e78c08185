"""What happens when in a long video: the leading classes over time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from adafocus_jax.errors import UserError
from adafocus_jax.types import VideoPrediction
from adafocus_jax.visualize.style import MARKERS, PALETTE, add_legend, dress, new_figure, shorten, to_image

LEADING = 6
"""Classes that get a line."""
_FEW = 40
"""Windows up to which each is marked."""


def timeline(windows: Sequence[VideoPrediction]) -> np.ndarray:
    """Draws the probabilities of the leading classes over a video's time: RGB ``uint8 [H, 960, 3]``.

    Each window stands at its middle, and the bar above the curves has the colour of its most probable class (grey where
    that is none of the leading ones, nothing where the window has no prediction).

    Args:
      windows: predictions of ``Predictor.windows``, of one video.

    Raises:
      UserError: none of them is a prediction of a window.
    """
    good = [one for one in windows if one.error is None and one.segment_sec is not None]
    if not good:
        raise UserError("no window of the video has a prediction: there is no timeline to draw")
    segments = np.array([one.segment_sec for one in good])
    scores = np.stack([one.probabilities for one in good])
    # Curves break where a window has no prediction: a line across would tell of what nobody knows.
    all_segments = np.array([one.segment_sec for one in windows if one.segment_sec is not None])
    drawn = np.full((len(all_segments), scores.shape[1]), np.nan)
    drawn[[i for i, one in enumerate(one for one in windows if one.segment_sec) if one.error is None]] = (
        scores
    )
    # By how often a class leads, then by its mean.
    led = np.bincount(scores.argmax(axis=1), minlength=scores.shape[1])
    order = np.lexsort((-scores.mean(axis=0), -led))[:LEADING]
    figure = new_figure(640)
    axes = figure.add_subplot()
    middles, marker = all_segments.mean(axis=1), len(good) <= _FEW
    handles = []
    for i, k in enumerate(order):
        (line,) = axes.plot(middles, 100 * drawn[:, k], color=PALETTE[i], linewidth=3)
        if marker:
            line.set(marker=MARKERS[i], markersize=9)
        line.set_label(shorten(good[0].classes[k], 26))
        handles.append(line)
    borders = np.minimum(segments[:, 1], np.append(segments[1:, 0], np.inf))
    for (start, _), end, leader in zip(segments, borders, scores.argmax(axis=1), strict=True):
        known = np.flatnonzero(order == leader)
        axes.axvspan(start, end, 0.94, 1, color=PALETTE[known[0]] if len(known) else "#b0b7be", linewidth=0)
    axes.set(xlim=(segments[0, 0], segments[-1, 1]), ylim=(-3, 112), yticks=range(0, 101, 20))
    dress(axes, "time in the video (s)", "probability (%)")
    add_legend(figure, handles, columns=2)
    return to_image(figure)

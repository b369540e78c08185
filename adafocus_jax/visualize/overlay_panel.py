"""What stands below an overlay video: the classes at the exit reached so far, and the temporal policy over time."""

from __future__ import annotations

import cv2
import numpy as np
from matplotlib.axes import Axes

from adafocus_jax.types import VideoPrediction
from adafocus_jax.visualize.curves import candidate_edges_sec, cost_unit, weight_edges_sec
from adafocus_jax.visualize.style import (
    CHOSEN,
    GLANCE_LIGHT,
    cover,
    new_figure,
    rgb,
    shorten,
    to_image,
    write_text,
)

BACKGROUND, TRACK, WHITE = (24, 24, 24), (64, 64, 64), (255, 255, 255)
FILLING = 0.5
"""Share of a box's time on screen in which the bars move to its exit."""


class Panel:
    """Draws the strip below the video; text is drawn once per exit, bars and cursor at every frame."""

    def __init__(self, prediction: VideoPrediction, width_px: int) -> None:
        """``width_px``: of the video, even."""
        self._prediction, self._width = prediction, width_px
        scores, count = prediction.exit_probabilities, len(prediction.frame_indices)
        # The exits that a video passes while it plays: after the glance, then after focus frames.
        last = prediction.exit
        self._exits = list(range(last - count, last + 1)) if last >= count else [0] * count + [last]
        leading = np.argsort(-scores[self._exits].max(axis=0), kind="stable")[:5]
        self._order = leading[np.argsort(-scores[last, leading], kind="stable")]
        self._scores = scores
        self._text_px = float(np.clip(width_px / 32, 13, 26))
        self._row, self._margin = round(1.5 * self._text_px), round(0.6 * self._text_px)
        self._bars_top = self._margin + self._row
        self._curve_top = self._bars_top + len(self._order) * self._row + self._margin
        self._curve_height = round(1.6 * self._row) if len(prediction.frame_weights) else self._row // 2
        height = self._curve_top + self._curve_height + 2 * self._margin
        self._height = height + height % 2
        self._bar_left, self._bar_right = round(0.46 * width_px), round(width_px - 3.4 * self._text_px)
        edges = candidate_edges_sec(prediction.candidate_times_sec)
        self._start, self._end = float(edges[0]), float(max(edges[-1], edges[0] + 1e-6))
        self._still: dict[int, np.ndarray] = {}

    def draw(self, time_sec: float, seen: int, age: float) -> np.ndarray:
        """The strip ``[h, width_px, 3]`` at a time of the video.

        Args:
          time_sec: where the cursor stands.
          seen: focus frames so far.
          age: how long the last of them has been shown, as a share of the time that its box stays, in [0, 1].
        """
        exit_now = self._exits[seen]
        if exit_now not in self._still:
            self._still[exit_now] = self._draw_still(exit_now, seen)
        image = self._still[exit_now].copy()
        before = self._scores[self._exits[max(seen - 1, 0)]]
        share = min(age / FILLING, 1.0)
        for i, k in enumerate(self._order):
            score = (1 - share) * before[k] + share * self._scores[exit_now][k]
            self._draw_bar(image, i, float(score))
        x = self._x(time_sec)
        cv2.line(image, (x, self._curve_top), (x, self._curve_top + self._curve_height), WHITE, 2)
        return image

    def _x(self, time_sec: float) -> int:
        share = (time_sec - self._start) / (self._end - self._start)
        return round(self._margin + float(np.clip(share, 0, 1)) * (self._width - 2 * self._margin))

    def _draw_bar(self, image: np.ndarray, i: int, score: float) -> None:
        top = self._bars_top + i * self._row + round(0.2 * self._row)
        bottom, length = top + round(0.6 * self._row), score * (self._bar_right - self._bar_left)
        colour = rgb(CHOSEN) if i == 0 else rgb(GLANCE_LIGHT)
        cv2.rectangle(image, (self._bar_left, top), (self._bar_right, bottom), TRACK, -1)
        cv2.rectangle(image, (self._bar_left, top), (self._bar_left + round(length), bottom), colour, -1)

    def _draw_still(self, exit_now: int, seen: int) -> np.ndarray:
        canvas = np.full((self._height, self._width, 3), BACKGROUND, np.uint8)
        self._draw_curve(canvas, seen)
        figure = new_figure(self._height, self._width)
        axes = cover(figure, canvas)
        self._write_heading(axes, exit_now, seen)
        # A letter of the bundled font is 0.6 of its size wide, or a little less.
        room = int((self._bar_left - 2 * self._margin) / (0.58 * self._text_px))
        for i, k in enumerate(self._order):
            baseline = self._bars_top + (i + 0.7) * self._row
            weight = "bold" if i == 0 else "normal"
            name = shorten(self._prediction.classes[k], room)
            write_text(axes, self._margin, baseline, name, self._text_px, "white", weight=weight)
            percent = f"{self._scores[exit_now][k]:.0%}"
            write_text(
                axes, self._width - self._margin, baseline, percent, self._text_px, "white", ha="right"
            )
        return to_image(figure)

    def _write_heading(self, axes: Axes, exit_now: int, seen: int) -> None:
        prediction = self._prediction
        unit, costs = cost_unit(prediction.exit_gflops)
        count = len(prediction.frame_indices)
        text = f"patch {seen} of {count}" if seen else "after the glance"
        if exit_now == prediction.exit and exit_now < len(costs) - 1:
            text += ": left here"
        cost = f"{costs[exit_now]:.3g} {unit}"
        baseline = self._margin + 0.55 * self._row
        write_text(axes, self._margin, baseline, text, self._text_px, "white")
        write_text(axes, self._width - self._margin, baseline, cost, self._text_px, "white", ha="right")

    def _draw_curve(self, canvas: np.ndarray, seen: int) -> None:
        """Weights of the temporal policy as blue columns, glance frames as ticks, chosen frames as orange lines."""
        prediction, bottom = self._prediction, self._curve_top + self._curve_height
        canvas[bottom : bottom + 2] = TRACK
        if len(weights := prediction.frame_weights):
            borders = [self._x(edge) for edge in weight_edges_sec(prediction)]
            tops = bottom - np.rint(self._curve_height * weights / weights.max()).astype(int)
            for left, right, top in zip(borders, borders[1:], tops, strict=False):
                canvas[top:bottom, left : max(right - 1, left + 1)] = rgb(GLANCE_LIGHT)
        for index in prediction.glance_indices:
            x = self._x(prediction.candidate_times_sec[index])
            canvas[bottom + 2 : bottom + 2 + self._margin, max(x - 1, 0) : x + 1] = rgb(GLANCE_LIGHT)
        for i, time_sec in enumerate(prediction.times_sec):
            x, half = self._x(time_sec), 2 if i < seen else 1
            top = self._curve_top if i < seen else bottom - self._curve_height // 4
            canvas[top : bottom + self._margin, max(x - half, 0) : x + half] = rgb(CHOSEN)

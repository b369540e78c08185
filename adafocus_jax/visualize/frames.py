"""The contact sheet: which frames a model glanced at, which it chose, and what it cut from them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import cv2
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import withStroke

from adafocus_jax.errors import UserError
from adafocus_jax.types import VideoPrediction
from adafocus_jax.visualize.style import (
    CHOSEN,
    GLANCE,
    INK,
    MUTED,
    TEXT_PX,
    TRUTH,
    WIDTH_PX,
    cover,
    new_figure,
    shorten,
    to_image,
    write_text,
)

MARGIN, GAP, LINE = 20, 12, 40
DASHES = (0, (3, 2))


@dataclass(frozen=True)
class Cell:
    """A place on the sheet, in whole pixels."""

    top: int
    left: int
    height: int
    width: int


def contact_sheet(prediction: VideoPrediction) -> np.ndarray:
    """Draws one predicted video: RGB ``uint8 [H, 960, 3]``.

    Above, all N candidates: blue bars under those glanced at, numbered orange frames around those chosen.
    Below, every chosen frame with its box and time, and under it the patch that the local encoder received; nothing
    of a video that left before.
    ``prediction.extra`` may hold ``true_class`` (a name) and ``true_boxes`` (``[N, 4]`` pixels, NaN in frames
    without the thing): they are drawn beside the prediction.
    """
    frames = shown_frames(prediction)
    small = candidate_cells(prediction, top=MARGIN + 3 * LINE + GAP)
    heading = small[-1].top + small[-1].height + GAP + LINE
    large = chosen_cells(prediction, top=heading + GAP)
    height = (large[-1].top + large[-1].height + large[-1].width + GAP if large else heading - LINE) + MARGIN
    canvas = np.full((height, WIDTH_PX, 3), 255, np.uint8)
    for cell, frame in zip(small, frames, strict=True):
        _paste(canvas, cell, frame)
    for cell, index, box in zip(large, prediction.frame_indices, prediction.boxes, strict=True):
        _paste(canvas, cell, frames[index])
        _paste(canvas, _patch_cell(cell), cut_patch(frames[index], box, cell.width))
    figure = new_figure(height)
    axes = cover(figure, canvas)
    _write_headings(axes, prediction, heading)
    _mark_candidates(axes, prediction, small)
    _mark_chosen(axes, prediction, large)
    return to_image(figure)


def verdict(prediction: VideoPrediction) -> str:
    """The most probable class at the exit that was taken, with its probability in percent."""
    (best,) = prediction.top(1)
    return f"{shorten(best.name, 36)}  {best.probability:.0%}"


def seen_text(prediction: VideoPrediction) -> str:
    """How far the video went before it left, for a caption.

    An exit is named by the number of focus frames before it.
    """
    count, last = len(prediction.frame_indices), len(prediction.exit_gflops) - 1
    if prediction.exit == last:
        return f"all {count} patches seen" if count else "all frames seen"
    return (
        f"left early, after {count} patch{'' if count == 1 else 'es'}" if count else "left after the glance"
    )


def shown_frames(prediction: VideoPrediction) -> np.ndarray:
    """The candidate frames ``[N, H, W, 3]``.

    Raises:
      UserError: the prediction was made without them.
    """
    if prediction.frames is None:
        raise UserError(
            f"the prediction of {prediction.name} has no frames to draw: predict with keep_frames=True"
        )
    return prediction.frames


def true_boxes(prediction: VideoPrediction) -> np.ndarray:
    """``extra["true_boxes"]``, ``[N, 4]``: NaN where the thing is not there, or nothing is known."""
    unknown = np.full((len(prediction.candidate_times_sec), 4), np.nan)
    return np.asarray(prediction.extra.get("true_boxes", unknown), np.float64)


def candidate_cells(prediction: VideoPrediction, top: int) -> list[Cell]:
    """Places of the N small candidates: rows of 8, or of 12 where there are many."""
    frames = shown_frames(prediction)
    return _grid(len(frames), 8 if len(frames) <= 24 else 12, top, frames, 0, 120)


def chosen_cells(prediction: VideoPrediction, top: int) -> list[Cell]:
    """Places of the F large frames; a line of text fits above each and its square patch below."""
    count = len(prediction.frame_indices)
    columns = max(count, 1) if count <= 4 else 4 if count <= 16 else 6
    return _grid(count, columns, top, shown_frames(prediction), 1, 300)


def _grid(count: int, columns: int, top: int, frames: np.ndarray, patches: int, most: int) -> list[Cell]:
    width = min((WIDTH_PX - 2 * MARGIN - (columns - 1) * GAP) // columns, most)
    height = round(width * frames.shape[1] / frames.shape[2])
    row_height = height + patches * (width + LINE + GAP) + GAP
    return [
        Cell(
            top + (i // columns) * row_height + patches * LINE,
            MARGIN + (i % columns) * (width + GAP),
            height,
            width,
        )
        for i in range(count)
    ]


def cut_patch(frame: np.ndarray, box: np.ndarray, side: int) -> np.ndarray:
    """The box ``(top, left, height, width)`` of a uint8 frame, resampled to ``[side, side, 3]`` uint8."""
    top, left, height, width = np.asarray(box, np.float64)
    to_frame = np.array(
        [
            [width / side, 0, left + width / side / 2 - 0.5],
            [0, height / side, top + height / side / 2 - 0.5],
        ]
    )
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(frame, to_frame, (side, side), flags=flags, borderMode=cv2.BORDER_REPLICATE)


def _paste(canvas: np.ndarray, cell: Cell, image: np.ndarray) -> None:
    enlarged = cell.width > image.shape[1]
    method = cv2.INTER_CUBIC if enlarged else cv2.INTER_AREA
    resized = cv2.resize(image, (cell.width, cell.height), interpolation=method)
    canvas[cell.top : cell.top + cell.height, cell.left : cell.left + cell.width] = resized


def _patch_cell(cell: Cell) -> Cell:
    return Cell(cell.top + cell.height + GAP, cell.left, cell.width, cell.width)


def _write_headings(axes: Axes, prediction: VideoPrediction, chosen_top: int) -> None:
    title = verdict(prediction)
    if "true_class" in prediction.extra:
        title += f"   (truth: {shorten(str(prediction.extra['true_class']), 24)})"
    write_text(axes, MARGIN, MARGIN + 24, title, TEXT_PX + 4, weight="bold")
    name = f"{shorten(PurePath(prediction.name).name, 48)}   ({seen_text(prediction)})"
    write_text(axes, MARGIN, MARGIN + LINE + 20, name, TEXT_PX - 4, MUTED)
    baseline = MARGIN + 3 * LINE - 6
    write_text(axes, MARGIN, baseline, f"{len(prediction.candidate_times_sec)} candidate frames", TEXT_PX)
    if len(prediction.frame_indices):
        write_text(axes, MARGIN, chosen_top - 6, "Chosen frames, and the patch cut from each", TEXT_PX)
    _add_key(axes, baseline, "true_boxes" in prediction.extra)


def _add_key(axes: Axes, baseline: float, truth: bool) -> None:
    handles: list[Artist] = [
        Line2D([], [], color=GLANCE, linewidth=8, label="glanced at"),
        Patch(fill=False, edgecolor=CHOSEN, linewidth=5, label="chosen"),
    ]
    if truth:
        handles.append(Line2D([], [], color=TRUTH, linewidth=4, linestyle=DASHES, label="true box"))
    axes.legend(
        handles=handles,
        loc="lower right",
        bbox_to_anchor=(WIDTH_PX - MARGIN, baseline + 6),
        bbox_transform=axes.transData,
        ncols=3,
        fontsize=TEXT_PX - 2,
        labelcolor=INK,
        frameon=False,
        borderpad=0,
        borderaxespad=0,
        handlelength=1.4,
        columnspacing=1,
    )


def _mark_candidates(axes: Axes, prediction: VideoPrediction, cells: list[Cell]) -> None:
    for index in prediction.glance_indices:
        corner = (cells[index].left, cells[index].top + cells[index].height + 2)
        axes.add_patch(Rectangle(corner, cells[index].width, 6, color=GLANCE, linewidth=0))
    for number, index in enumerate(prediction.frame_indices, 1):
        _outline(axes, cells[index], CHOSEN)
        _badge(axes, cells[index], number)


def _mark_chosen(axes: Axes, prediction: VideoPrediction, cells: list[Cell]) -> None:
    truth = true_boxes(prediction)[prediction.frame_indices]
    times = prediction.times_sec
    zoom = cells[0].width / shown_frames(prediction).shape[2] if cells else 1.0
    for i, cell in enumerate(cells):
        _draw_box(axes, cell, truth[i] * zoom, TRUTH, DASHES)
        _draw_box(axes, cell, prediction.boxes[i] * zoom, CHOSEN, "solid")
        _outline(axes, _patch_cell(cell), CHOSEN)
        time = f"{i + 1}  {times[i]:.1f} s"
        size = min(TEXT_PX - 2, 1.45 * cell.width / len(time))
        write_text(axes, cell.left, cell.top - 8, time, size, CHOSEN, weight="bold")


def _draw_box(axes: Axes, cell: Cell, box: np.ndarray, colour: str, dashes: Any) -> None:
    if np.isnan(box).any():
        return
    top, left, height, width = box
    axes.add_patch(
        Rectangle(
            (cell.left + left, cell.top + top),
            width,
            height,
            fill=False,
            edgecolor=colour,
            linewidth=4,
            linestyle=dashes,
            path_effects=[withStroke(linewidth=7, foreground="white")],
        )
    )


def _outline(axes: Axes, cell: Cell, colour: str) -> None:
    corner = (cell.left + 2, cell.top + 2)
    axes.add_patch(
        Rectangle(corner, cell.width - 4, cell.height - 4, fill=False, edgecolor=colour, linewidth=5)
    )


def _badge(axes: Axes, cell: Cell, number: int) -> None:
    patch = {"boxstyle": "square,pad=0.15", "facecolor": CHOSEN, "edgecolor": "none"}
    corner = (cell.left + 7, cell.top + 7)
    write_text(axes, *corner, str(number), TEXT_PX - 4, "white", va="top", weight="bold", bbox=patch)

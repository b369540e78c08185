"""The contact sheet, by its pixels."""

from dataclasses import replace

import numpy as np
import pytest

from adafocus_jax.errors import UserError
from adafocus_jax.visualize.frames import (
    candidate_cells,
    chosen_cells,
    contact_sheet,
    cut_patch,
    seen_text,
    verdict,
)
from adafocus_jax.visualize.style import CHOSEN, GLANCE, TRUTH

CHOSEN_FRAMES = np.array([3, 9])


def rgb(colour):
    return np.array(list(bytes.fromhex(colour[1:])))


def holds(region, colour):
    return (region == rgb(colour)).all(axis=-1).any()


def place(sheet, cell):
    return sheet[cell.top : cell.top + cell.height, cell.left : cell.left + cell.width]


def cells_of(prediction):
    """The same places that the sheet uses, found from its own layout functions."""
    small = candidate_cells(prediction, top=152)
    return small, chosen_cells(prediction, top=small[-1].top + small[-1].height + 64)


def test_every_candidate_is_shown_and_only_the_chosen_are_framed(prediction):
    sheet = contact_sheet(prediction)
    assert (sheet.dtype, sheet.shape[1:]) == (np.uint8, (960, 3))
    for index, cell in enumerate(cells_of(prediction)[0]):
        image = place(sheet, cell)
        assert (image[-20:-10, -20:-10] == prediction.frames[index, 0, 0]).all()
        assert holds(image, CHOSEN) == (index in prediction.frame_indices)


def test_only_glanced_candidates_are_underlined(prediction):
    sheet = contact_sheet(prediction)
    for index, cell in enumerate(cells_of(prediction)[0]):
        below = sheet[
            cell.top + cell.height : cell.top + cell.height + 10, cell.left : cell.left + cell.width
        ]
        assert holds(below, GLANCE) == (index in prediction.glance_indices)


def test_boxes_stand_where_they_were_cut(prediction):
    sheet = contact_sheet(prediction)
    for cell, (top, left, height, width) in zip(cells_of(prediction)[1], prediction.boxes, strict=True):
        zoom = cell.width / 48
        edges = (place(sheet, cell) == rgb(CHOSEN)).all(axis=-1)
        rows, columns = np.flatnonzero(edges.any(axis=1)), np.flatnonzero(edges.any(axis=0))
        np.testing.assert_allclose(rows[[0, -1]] / zoom, [top, top + height], atol=0.6)
        np.testing.assert_allclose(columns[[0, -1]] / zoom, [left, left + width], atol=0.6)


def test_true_boxes_and_class_are_drawn_where_known(prediction):
    boxes = np.full((12, 4), np.nan)
    boxes[3] = [30, 10, 20, 20]
    known = replace(prediction, extra={"true_class": "名前", "true_boxes": boxes})
    sheet, plain = contact_sheet(known), contact_sheet(prediction)
    first, second = cells_of(prediction)[1]
    assert holds(place(sheet, first), TRUTH)
    assert not holds(place(sheet, second), TRUTH)
    assert not holds(plain, TRUTH)
    assert (sheet[:60] != plain[:60]).any()


@pytest.mark.parametrize(
    ("count", "chosen", "size"),
    [(1, 1, (96, 96)), (48, 16, (224, 224)), (96, 32, (320, 180)), (48, 0, (24, 320))],
)
def test_any_number_and_shape_of_frames_fits(prediction, count, chosen, size):
    many = replace(
        prediction,
        frames=np.zeros((count, *size, 3), np.uint8),
        candidate_numbers=np.arange(count),
        candidate_times_sec=np.arange(count) + 100.0,
        glance_indices=np.arange(0, count, 3),
        frame_indices=np.arange(chosen),
        boxes=np.tile([0, 0, 40, 40], (chosen, 1)).astype(np.float32),
    )
    sheet = contact_sheet(many)
    small, large = cells_of(many)
    assert (len(small), len(large)) == (count, chosen)
    assert all(cell.left + cell.width <= 940 for cell in small + large)
    lowest = large[-1].top + large[-1].height + large[-1].width if large else small[-1].top + small[-1].height
    assert lowest < len(sheet)


def test_cut_patch_reads_where_the_model_reads():
    frame = np.zeros((96, 96, 3), np.uint8)
    frame[..., 0], frame[..., 1] = np.arange(96)[:, None] * 2, np.arange(96) * 2
    top, left, height, width = box = np.array([10.5, 20.0, 40.0, 24.0])
    patch = cut_patch(frame, box, 32).astype(float)
    at = np.arange(32) + 0.5
    np.testing.assert_allclose(patch[:, 0, 0], 2 * (top + at * height / 32 - 0.5), atol=1)
    np.testing.assert_allclose(patch[0, :, 1], 2 * (left + at * width / 32 - 0.5), atol=1)


def test_verdict_names_the_class_of_the_exit_that_was_taken_in_percent(prediction):
    assert verdict(prediction) == "kick & <b>run</b>  91%"  # e³ / (e³ + 2) = 0.909
    assert verdict(replace(prediction, exit=0)) == "cost $5 & $6  58%"  # e / (e + 2) = 0.576


@pytest.mark.parametrize(
    ("taken", "chosen", "text"),
    [
        (2, 2, "all 2 patches seen"),
        (1, 1, "left early, after 1 patch"),
        (0, 0, "left after the glance"),
    ],
)
def test_how_far_a_video_went_is_told(prediction, taken, chosen, text):
    found = replace(
        prediction, exit=taken, frame_indices=CHOSEN_FRAMES[:chosen], boxes=prediction.boxes[:chosen]
    )
    assert seen_text(found) == text
    assert contact_sheet(found).shape[1:] == (960, 3)


def test_a_prediction_without_frames_cannot_be_drawn(prediction):
    with pytest.raises(UserError, match="keep_frames=True"):
        contact_sheet(replace(prediction, frames=None))


def test_a_name_that_is_no_text_is_drawn(prediction):
    named = [replace(prediction, name=f"caf{sign}.mp4") for sign in ("\udce9", "\ufffd")]
    np.testing.assert_array_equal(*map(contact_sheet, named))

"""Curves: the right colours in the right columns, and no input that a run can produce breaks them."""

from dataclasses import replace

import numpy as np
import pytest

from adafocus_jax.errors import UserError
from adafocus_jax.visualize.curves import (
    Series,
    accuracy_cost,
    candidate_edges_sec,
    class_scores,
    cost_unit,
    temporal_weights,
    training_curves,
)
from adafocus_jax.visualize.style import CHOSEN, PALETTE, TRUTH, shorten


def columns_of(image, colour, rows=slice(60, 300)):
    """Columns in which most of the given rows have exactly this colour."""
    same = (image[rows] == np.array(list(bytes.fromhex(colour[1:])))).all(axis=-1)
    return np.flatnonzero(same.mean(axis=0) > 0.8)


def groups(columns):
    return np.split(columns, np.flatnonzero(np.diff(columns) > 1) + 1) if len(columns) else []


def test_chosen_frames_stand_at_their_times(prediction):
    lines = groups(columns_of(temporal_weights(prediction), CHOSEN))
    assert len(lines) == 2
    alone = replace(prediction, frame_indices=np.array([0, 11]), boxes=prediction.boxes)
    first, last = (line.mean() for line in groups(columns_of(temporal_weights(alone), CHOSEN)))
    at = (np.array([line.mean() for line in lines]) - first) / (last - first)
    np.testing.assert_allclose(at, [3 / 11, 9 / 11], atol=0.005)


def test_known_truth_is_shaded(prediction):
    boxes = np.full((12, 4), np.nan)
    boxes[3:6] = 1
    plain = temporal_weights(prediction)
    shaded = temporal_weights(replace(prediction, extra={"true_boxes": boxes}))
    assert plain.shape == shaded.shape
    green = shaded[..., 1].astype(int) - shaded[..., 0] > 20
    assert green[60].sum() > 150  # three twelfths of the axes, above the bars
    assert TRUTH != CHOSEN


def test_candidate_edges_cover_the_video(prediction):
    np.testing.assert_allclose(candidate_edges_sec(prediction.candidate_times_sec), np.arange(13) / 3)
    np.testing.assert_allclose(candidate_edges_sec(np.array([2.0])), [1.5, 2.5])


@pytest.mark.parametrize(("exits", "classes"), [(1, 3), (3, 2), (17, 200)])
def test_class_scores_take_any_number_of_exits_and_classes(prediction, exits, classes):
    logits = np.random.default_rng(0).normal(0, 3, (exits, classes)).astype(np.float32)
    logits[-1, 1] = 1e4  # saturated
    image = class_scores(
        replace(
            prediction,
            classes=tuple(f"a very long class name, number {i} $" for i in range(classes)),
            exit_logits=logits,
            exit_gflops=np.linspace(0.001, 0.01, exits),
            exit=exits - 1,
        )
    )
    assert image.shape == (600, 960, 3)
    assert not np.array_equal(image[:400], np.full_like(image[:400], 255))


def test_the_exit_taken_is_marked(prediction):
    same_order = prediction.exit_logits + np.array([0.0, 2.0, 0.0], np.float32)[:, None] * [1, 0, 0]
    logits = same_order.astype(np.float32)
    left, none = (class_scores(replace(prediction, exit_logits=logits, exit=taken)) for taken in (1, 2))
    differs = np.flatnonzero((left != none).any(axis=(0, 2)))
    assert 0 < np.ptp(differs) < 200  # the line and its words, nothing else
    # What was not computed is not drawn, and the axis still shows what the whole would have cost.
    early = class_scores(replace(prediction, exit_logits=logits[:2], exit=1))
    assert (early[:400, 800:] != 255).any()


def test_weights_of_a_video_that_left_before_the_policy_ran(prediction):
    with pytest.raises(UserError, match="left at exit 1, before the temporal policy ran"):
        temporal_weights(replace(prediction, exit=1, frame_weights=np.zeros(0)))


def test_cost_is_drawn_in_a_readable_unit_common_to_all_series():
    unit, values = cost_unit([4.9, 27.2])
    assert unit == "GFLOPs"
    np.testing.assert_allclose(values, [4.9, 27.2])
    image = accuracy_cost([Series("early exit", [0.5, 1.5], [40, 80]), Series("uniform frames", [1.5], [60])])
    point = np.argwhere((image[:400] == np.array(list(bytes.fromhex(PALETTE[1][1:])))).all(axis=-1))
    assert np.ptp(point[:, 0]) < 15  # one marker …
    line = np.argwhere((image[:400] == np.array(list(bytes.fromhex(PALETTE[0][1:])))).all(axis=-1))
    assert abs(line[:, 1].max() - point[:, 1].max()) < 3  # … under the line's dear end: both in one unit


def test_training_curves_skip_what_no_row_holds():
    rows = [{"step": s, "loss/total": 1 / (s + 1)} for s in range(60)] + [{"step": 60, "top1": float("nan")}]
    image = training_curves(rows, {"loss": ["loss/total", "loss/none"], "top-1 (%)": ["top1"]})
    assert image.shape == (860, 960, 3)
    assert training_curves(rows, {"loss": ["loss/total"]}).shape == (430, 960, 3)
    assert training_curves([], {"loss": ["loss/total"]}).shape == (430, 960, 3)


def test_shorten_keeps_what_fits():
    assert shorten("abc", 3) == "abc"
    assert shorten("abcd", 3) == "ab…"

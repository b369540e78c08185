"""The gallery: the right videos in the right groups, drawn whatever their shape."""

from dataclasses import replace

import numpy as np

from adafocus_jax.evaluate.predict import Predictions
from adafocus_jax.visualize.gallery import COLUMNS, draw_gallery, gallery_rows
from adafocus_jax.visualize.style import CHOSEN, rgb


def predictions_of(logits: np.ndarray, labels: np.ndarray) -> Predictions:
    count = len(logits)
    return Predictions(
        index=np.arange(count, dtype=np.int32),
        labels=labels,
        exit_logits=np.stack([np.zeros_like(logits), logits], axis=1),
        frame_weights=np.ones((count, 1), np.float32),
        glance_indices=np.zeros((count, 1), np.int32),
        frame_indices=np.zeros((count, 1), np.int32),
        boxes=np.zeros((count, 1, 4), np.float32),
    )


def test_groups_are_by_confidence_of_the_last_exit_and_by_any_label():
    logits = np.array([[3, 0, 0], [0, 9, 0], [0, 0, 0.5], [0, 5, 0]], np.float32)
    labels = np.array([[0, -1], [2, 1], [0, -1], [2, -1]])
    assert gallery_rows(predictions_of(logits, labels), 2) == {
        "Most confident": [1, 3],
        "Least confident": [2, 0],
        "Wrong, the most confident first": [3, 2],
    }


def test_wide_tall_and_tiny_videos_and_empty_groups_are_drawn(prediction):
    def shaped(height, width, truth):
        frames = np.full((12, height, width, 3), 90, np.uint8)
        boxes = np.array([[0, 0, height / 2, width / 2]] * 2, np.float32)
        return replace(prediction, frames=frames, boxes=boxes, extra={"true_class": truth})

    group = [shaped(64, 48, "名前"), shaped(20, 300, prediction.classes[0]), shaped(8, 8, "a long name " * 9)]
    picture = draw_gallery({"Right": group * 3, "Wrong": []})
    assert picture.shape[1:] == (960, 3)
    assert (picture == rgb(CHOSEN)).all(axis=-1).sum() > 500
    shorter = draw_gallery({"Right": group * 3})
    assert len(picture) - len(shorter) > 100
    assert COLUMNS < 9, "the group takes two rows"

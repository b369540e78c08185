"""Pictures of evaluations: of the same videos each time, of the frames that the model was given."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from adafocus_jax.data.batches.pipeline import ClipSpec, eval_batches
from adafocus_jax.data.records.reader import Record
from adafocus_jax.data.records.schema import encode_frame
from adafocus_jax.errors import UserError
from adafocus_jax.evaluate.predict import Predictions
from adafocus_jax.predict.videos import source_predictions
from adafocus_jax.visualize.gallery import validation_gallery
from adafocus_jax.visualize.pictures import evaluation_pictures

SPEC = ClipSpec(num_candidates=4, image_size=16, resize=20, num_glance=2)


@dataclass(frozen=True)
class Source:
    """Five records of 6 frames, 24 × 40, of labels 0, 1, 2, 0, 1; the last has two."""

    classes: tuple[str, ...] = ("run", "jump", "walk")
    max_labels: int = 2

    def __len__(self):
        return 5

    def __getitem__(self, index):
        rng = np.random.default_rng(index)
        jpegs = [encode_frame(rng.integers(0, 256, (24, 40, 3), np.uint8), 95) for _ in range(6)]
        labels = (index % 3, *([2] if index == 4 else []))
        return Record(jpegs, labels, f"videos/{index}.mp4", 3.0, f"record {index}")


@pytest.fixture(scope="module")
def predictions() -> Predictions:
    """In another order than the records', as several processes may gather them; record 2 is not among them."""
    index = np.array([4, 0, 3, 1], np.int32)
    rng = np.random.default_rng(0)
    return Predictions(
        index=index,
        labels=np.zeros((4, 2), np.int32),
        exit_logits=rng.standard_normal((4, 3, 3)).astype(np.float32),
        frame_weights=np.full((4, 2), 0.5, np.float32),
        glance_indices=np.tile(np.array([1, 3], np.int32), (4, 1)),
        frame_indices=np.tile(np.array([0, 2], np.int32), (4, 1)),
        boxes=np.tile(np.array([2, 3, 8, 8], np.float32), (4, 2, 1)),
    )


def test_records_are_shown_as_the_model_saw_them(predictions):
    costs = np.arange(3.0)
    shown = list(source_predictions(Source(), SPEC, Source().classes, predictions, costs, count=9))
    (batch,) = eval_batches(Source(), SPEC, batch_size=5)
    assert [video.name for video in shown] == [f"videos/{index}.mp4" for index in (0, 1, 3, 4)]
    for video, index, row in zip(shown, (0, 1, 3, 4), (1, 3, 2, 0), strict=True):
        np.testing.assert_array_equal(video.frames, batch["frames"][index])
        np.testing.assert_array_equal(video.exit_logits, predictions.exit_logits[row])
        np.testing.assert_allclose(video.candidate_times_sec, np.array([0, 2, 3, 5]) / 3)
    assert [video.extra["true_class"] for video in shown] == ["run", "jump", "run", "jump, walk"]


def test_pictures_are_named_by_video_and_kind(predictions):
    pictures = evaluation_pictures(Source(), SPEC, predictions, 2)
    assert list(pictures) == [f"videos/{i}.mp4/{kind}" for i in (0, 1) for kind in ("frames", "weights")]
    for image in pictures.values():
        assert image.dtype == np.uint8
        assert image.shape[1:] == (960, 3)
    assert evaluation_pictures(Source(), SPEC, predictions, 0) == {}


def test_a_gallery_of_stored_predictions_is_refused_for_other_videos(predictions):
    labels = np.array([[1, 2], [0, -1], [0, -1], [1, -1]])  # of records 4, 0, 3, 1
    picture = validation_gallery(Source(), SPEC, Source().classes, replace(predictions, labels=labels))
    assert picture.shape[1:] == (960, 3)
    assert (picture != 255).any(axis=-1).sum() > 20_000
    with pytest.raises(UserError, match="the stored predictions are of other videos"):
        validation_gallery(Source(), SPEC, Source().classes, predictions)

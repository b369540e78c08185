"""Predictor: whatever is given, in order, equal to evaluation, in bounded memory, and never ended by a broken video."""

import threading

import numpy as np
import pytest

from adafocus_jax.data.batches.pipeline import eval_batches
from adafocus_jax.data.batches.sources import open_data
from adafocus_jax.errors import UserError
from adafocus_jax.evaluate.predict import make_predict_function, predict_split
from adafocus_jax.predict.loading import load_model
from adafocus_jax.predict.predictor import Predictor
from adafocus_jax.types import VideoBatch


@pytest.fixture(scope="module")
def loaded(run) -> Predictor:
    return Predictor.load(run, max_in_flight=4, num_threads=2)


@pytest.fixture
def predictor(loaded) -> Predictor:
    """Without early exit, whatever the engine did before."""
    loaded.policy = None
    return loaded


def test_predictions_are_those_of_evaluation(predictor, run, videos):
    trained, source = load_model(run), open_data(videos, "train")
    batches = [VideoBatch(**batch) for batch in eval_batches(source, trained.spec, batch_size=4)]
    found = predict_split(make_predict_function(trained.model, trained.checkpoint.variables), batches)
    paths = [videos / source[int(index)].name for index in found.index]
    shown = list(predictor(paths, keep_frames=True))
    for row, one in enumerate(shown):
        assert one.name == str(paths[row])
        np.testing.assert_array_equal(one.frames, batches[0].frames[row])
        np.testing.assert_allclose(one.exit_logits, found.exit_logits[row], atol=1e-4)
        np.testing.assert_array_equal(one.frame_indices, found.frame_indices[row])
        np.testing.assert_array_equal(one.glance_indices, found.glance_indices[row])
        np.testing.assert_allclose(one.boxes, found.boxes[row], atol=1e-3)
        np.testing.assert_allclose(one.frame_weights, found.frame_weights[row], atol=1e-5)


def test_all_kinds_mixed_with_broken_ones_come_back_in_order(predictor, one_of_each, tmp_path):
    (tmp_path / "text.mp4").write_text("this is no video")
    broken = [
        tmp_path / "text.mp4",
        "nowhere.mp4",
        np.zeros((3, 8, 8), np.uint8),
        np.zeros((2, 8, 8, 3)),
        None,
    ]
    given = [one_of_each[0], *broken[:3], *one_of_each[1:], *broken[3:]]
    found = list(predictor(iter(given)))
    assert [one.error is None for one in found] == [True, False, False, False, True, True, True, False, False]
    assert [found[i].name for i in (0, 2, 3)] == [str(one_of_each[0]), "nowhere.mp4", "video 3"]
    assert "no such video: nowhere.mp4" in found[2].error
    path, folder, array = found[0], found[4], found[5]
    np.testing.assert_allclose(folder.exit_logits, path.exit_logits, atol=1e-4)
    np.testing.assert_allclose(array.exit_logits, path.exit_logits, atol=1e-4)
    np.testing.assert_array_equal(array.frame_numbers, path.frame_numbers)
    for one in found:
        if one.error is not None:
            assert (one.top(5), len(one.boxes), one.frames) == ([], 0, None)


def test_a_prediction_has_named_fields(predictor, videos):
    (one,) = predictor(videos / "walk" / "2.mp4")  # a single one, too
    assert [score.name for score in one.top(2)] == [
        one.classes[k] for k in np.argsort(-one.probabilities)[:2]
    ]
    assert one.probabilities.sum() == pytest.approx(1)
    assert one.exit == 5 == len(one.exit_gflops) - 1
    assert one.gflops == one.exit_gflops[-1]
    assert one.frame_indices.shape == one.times_sec.shape == one.frame_numbers.shape == (2,)
    np.testing.assert_allclose(one.times_sec, one.frame_numbers / 10)
    assert one.boxes.shape == (2, 4)
    assert one.candidate_times_sec.shape == (8,)
    assert one.seconds > 0
    assert one.frames is None


def test_no_more_than_a_window_is_taken_ahead_and_an_endless_source_ends_with_its_reader(
    predictor, one_of_each
):
    taken = 0

    def endless():
        nonlocal taken
        while True:
            taken += 1
            yield one_of_each[2]

    before = set(threading.enumerate())
    answers = predictor(endless())
    for number in range(12):
        next(answers)
        assert taken <= number + 2 + 2 * 4
    answers.close()
    for thread in set(threading.enumerate()) - before:
        thread.join(timeout=10)
        assert not thread.is_alive()


def test_what_the_source_raises_comes_after_what_it_gave(predictor, one_of_each):
    def torn():
        yield one_of_each[0]
        yield one_of_each[2]
        raise OSError("the list went away")

    answers = predictor(torn())
    assert [next(answers).name, next(answers).name] == [str(one_of_each[0]), "video 1"]
    with pytest.raises(OSError, match="the list went away"):
        next(answers)
    assert list(predictor([])) == []


@pytest.mark.parametrize(
    ("settings", "exit_taken", "seen"), [({"budget": 0.5}, 3, 0), ({"exit_share": 0.5}, 4, 1)]
)
def test_early_exit_gives_what_was_computed_up_to_it(run, predictor, videos, settings, exit_taken, seen):
    path = videos / "walk" / "3.mp4"
    (whole,) = predictor(path)
    (early,) = Predictor.load(run, **settings)(path)
    assert (early.exit, early.gflops) == (exit_taken, whole.exit_gflops[exit_taken])
    np.testing.assert_allclose(early.exit_logits, whole.exit_logits[: exit_taken + 1], atol=1e-4)
    np.testing.assert_allclose(early.probabilities, whole.exit_probabilities[exit_taken], atol=1e-4)
    np.testing.assert_array_equal(early.frame_indices, whole.frame_indices[:seen])
    assert len(early.boxes) == len(early.times_sec) == seen


def test_sizes_and_classes_have_to_agree(predictor, run):
    trained = load_model(run)
    with pytest.raises(UserError, match="classes has 2 names, and the model tells 3 classes apart"):
        Predictor(trained.model, trained.checkpoint.variables, ["a", "b"])

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adafocus_jax.errors import UserError
from adafocus_jax.metrics import mean_average_precision, top_k_accuracy

settings_ = settings(max_examples=60)
sizes = st.tuples(st.integers(1, 12), st.integers(1, 6), st.integers(1, 3), st.integers(0, 2**31))


def make(size, tied=False):
    """Random logits [n, K] (of few distinct values when tied) and labels [n, L] with pads."""
    videos, classes, labels, seed = size
    rng = np.random.default_rng(seed)
    logits = rng.integers(0, 2, (videos, classes)) if tied else rng.standard_normal((videos, classes))
    return logits.astype(np.float32), rng.integers(-1, classes, (videos, labels))


def slow_average_precision(logits, labels, k):
    """By the definition: walk down the ranking, note the precision at every positive."""
    scores = [np.exp(row[k]) / np.exp(row).sum() for row in logits.astype(np.float64)]
    ranking = sorted(range(len(scores)), key=lambda video: (-scores[video], video))
    found, precisions = 0, []
    for rank, video in enumerate(ranking, start=1):
        if k in labels[video]:
            found += 1
            precisions.append(found / rank)
    return 100 * sum(precisions) / max(1, len(precisions))


def test_golden_map(golden):
    result = mean_average_precision(golden["map_logits"], golden["map_labels"])
    np.testing.assert_allclose(result.per_class, golden["map_per_class"], rtol=1e-5)
    np.testing.assert_allclose(result.value, golden["map_value"], rtol=1e-5)


@pytest.mark.parametrize("k", [1, 5])
def test_golden_top_k_counts_the_first_label(golden, k):
    accuracy = top_k_accuracy(golden["map_logits"], golden["map_labels"], k)
    np.testing.assert_allclose(accuracy, golden[f"top{k}"][0], rtol=1e-6)


@settings_
@given(sizes)
def test_map_equals_the_definition(size):
    logits, labels = make(size)
    slow = [slow_average_precision(logits, labels, k) for k in range(logits.shape[1])]
    if logits.shape[1] > 1:  # the softmax of a single class ties all videos, up to rounding
        np.testing.assert_allclose(mean_average_precision(logits, labels).per_class, slow, rtol=1e-9)


def test_map_ranks_by_softmax_not_by_logit():
    logits = np.array(
        [[5.0, 9.0], [1.0, 0.0]]
    )  # video 0 has the larger logit of class 0, video 1 the larger share
    assert mean_average_precision(logits, np.array([1, 0])).per_class.tolist() == [100, 100]


def test_map_of_a_class_without_positives_is_zero_and_counts():
    result = mean_average_precision(np.eye(3)[:2], np.array([0, 1]))
    assert result.per_class.tolist() == [100, 100, 0]
    assert result.value == pytest.approx(200 / 3)


def test_map_ranks_equal_scores_in_the_order_given():
    labels = np.array([[0], [1], [0]])
    per_class = mean_average_precision(np.zeros((3, 2)), labels).per_class
    np.testing.assert_allclose(per_class, [100 * (1 + 2 / 3) / 2, 50])


def test_map_tells_apart_what_float32_softmax_rounds_to_one_and_to_zero():
    logits = np.array([[20.0, 0.0], [30.0, 0.0], [-800.0, 0.0], [-900.0, 0.0]], np.float32)
    assert mean_average_precision(logits, np.array([1, 0, 1, 1])).per_class[0] == 100
    assert mean_average_precision(logits[::-1], np.array([1, 0, 0, 0])).per_class[0] == 100


def test_map_takes_repeated_and_missing_labels():
    logits = np.array([[2.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    result = mean_average_precision(logits, np.array([[-1, -1], [0, 0], [-1, 1]]))
    assert result.per_class.tolist() == [50, 100]


@settings_
@given(sizes, st.randoms(use_true_random=False))
def test_metrics_do_not_depend_on_the_order_of_videos(size, random):
    logits, labels = make(size)
    order = random.sample(range(len(logits)), len(logits))
    if logits.shape[1] > 1:
        before, after = (mean_average_precision(logits[o], labels[o]).per_class for o in (slice(None), order))
        np.testing.assert_allclose(before, after, rtol=1e-12)
    assert top_k_accuracy(logits, labels) == pytest.approx(top_k_accuracy(logits[order], labels[order]))


@settings_
@given(sizes, st.booleans())
def test_a_mask_is_the_same_as_leaving_the_rows_out(size, tied):
    logits, labels = make(size, tied)
    mask = np.arange(len(logits)) % 3 != 1
    spoiled, wrong = logits.copy(), labels.copy()
    spoiled[~mask], wrong[~mask] = np.nan, 99  # padding may hold anything
    by_mask, by_rows = (
        mean_average_precision(spoiled, wrong, mask),
        mean_average_precision(logits[mask], labels[mask]),
    )
    np.testing.assert_array_equal(by_mask.per_class, by_rows.per_class)
    assert top_k_accuracy(spoiled, wrong, 2, mask) == top_k_accuracy(logits[mask], labels[mask], 2)


@settings_
@given(sizes, st.booleans(), st.integers(1, 9))
def test_metrics_stay_in_bounds_and_top_k_grows_with_k(size, tied, k):
    logits, labels = make(size, tied)
    result = mean_average_precision(logits, labels)
    assert (result.per_class >= 0).all()
    assert (result.per_class <= 100).all()
    assert result.value == pytest.approx(result.per_class.mean())
    smaller, larger = top_k_accuracy(logits, labels, k), top_k_accuracy(logits, labels, k + 1)
    assert 0 <= smaller <= larger <= 100


@settings_
@given(sizes, st.booleans())
def test_top_1_is_argmax_and_top_k_is_the_stable_sort(size, tied):
    logits, labels = make(size, tied)
    assert top_k_accuracy(logits, labels) == pytest.approx(100 * np.mean(logits.argmax(1) == labels[:, 0]))
    best = np.argsort(-logits, axis=1, kind="stable")[:, :3]
    assert top_k_accuracy(logits, labels, 3) == pytest.approx(100 * np.mean((best == labels[:, :1]).any(1)))


def test_top_k_beyond_the_classes_counts_all_and_no_label_is_a_miss():
    logits = np.eye(4, 3)
    assert top_k_accuracy(logits, np.array([2, 2, 0, 1]), k=5) == 100
    assert top_k_accuracy(logits, np.array([[-1, 2], [2, 0], [0, -1], [1, -1]]), k=5) == 75


@pytest.mark.parametrize("metric", [mean_average_precision, top_k_accuracy])
@pytest.mark.parametrize(
    ("logits", "labels", "mask", "message"),
    [
        (np.zeros((2, 3)), np.array([0, 3]), None, "label 3 with 3 classes"),
        (np.zeros((2, 3)), np.array([0, -2]), None, "label -2"),
        (np.zeros((2, 3)), np.array([0, 1, 2]), None, "disagree"),
        (np.zeros((2, 3)), np.array([0, 1]), np.array([True]), "disagree"),
        (np.zeros(3), np.array([0, 1, 2]), None, "disagree"),
        (np.zeros((0, 3)), np.zeros((0, 1), int), None, "no videos"),
        (np.zeros((2, 3)), np.array([0, 1]), np.array([False, False]), "no videos"),
        (np.array([[0.0, np.nan], [0.0, 1.0]]), np.array([0, 1]), None, "of 1 videos are not finite"),
    ],
)
def test_bad_input_is_one_line(metric, logits, labels, mask, message):
    with pytest.raises(UserError, match=message) as error:
        metric(logits, labels, mask=mask)
    assert "\n" not in str(error.value)


def test_top_0_is_refused():
    with pytest.raises(UserError, match="k = 0"):
        top_k_accuracy(np.zeros((1, 2)), np.array([0]), k=0)

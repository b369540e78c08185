import numpy as np

from adafocus_jax.sweep.pruning import asha, median


def scores(*finals, evaluations=3):
    return {number: [(step, (value,)) for step in range(evaluations)] for number, value in enumerate(finals)}


def test_asha_keeps_the_first_third_of_a_rung():
    found = scores(*range(9))
    assert [asha(found, number) for number in range(9)] == [True] * 6 + [False] * 3


def test_asha_waits_for_enough_trials_and_for_rungs():
    assert not asha(scores(1, 2), 0)
    two = scores(*range(9), evaluations=2)  # the last rung is the first evaluation, and all have passed it
    assert asha(two, 0)
    assert not asha({0: []}, 0)


def test_asha_with_two_objectives_stops_what_is_dominated():
    points = [(3.0, 0.0), (2.0, 1.0), (0.0, 3.0), (1.0, 0.5), (0.5, 0.5), (0.1, 0.1)]
    found = {number: [(1, point)] for number, point in enumerate(points)}
    assert [asha(found, number) for number in range(6)] == [False] * 3 + [True] * 3


def test_the_median_needs_others_and_compares_at_the_same_evaluation():
    found = scores(1, 2, 3, 4, 5)
    assert median(found, 0)
    assert not median(found, 4)
    assert not median(scores(0, 2, 3, 4), 0)
    found[4] = [(0, (0.0,)), (1, (9.0,)), (2, (0.0,))]  # the best so far counts
    assert not median(found, 4)


def test_asha_matches_sorting_for_random_scores():
    rng = np.random.default_rng(0)
    for _ in range(50):
        values = rng.permutation(12).astype(float)
        found = scores(*values, evaluations=1)
        kept = {number for number in range(12) if not asha(found, number)}
        assert kept == set(np.argsort(-values)[:4].tolist())

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adafocus_jax.data.records.order import Order

lengths = st.lists(st.integers(1, 9), min_size=1, max_size=12)


@given(lengths=lengths, per_window=st.integers(1, 14), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=25)
def test_an_epoch_is_a_permutation_that_stays_in_windows_of_whole_shards(lengths, per_window, seed):
    order = Order(lengths, per_window)
    epoch = [order.index(place, seed) for place in range(sum(lengths))]
    assert sorted(epoch) == list(range(sum(lengths)))
    shard_of = np.repeat(np.arange(len(lengths)), lengths)
    for number, (start, shards, ends) in enumerate(order.windows(seed)):
        assert len(shards) <= per_window
        records = epoch[start : start + ends[-1]]
        assert {shard_of[index] for index in records} == set(shards)
        assert {order.window_at(place, seed) for place in range(start, start + ends[-1])} == {number}


@given(lengths=lengths, seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_one_window_is_the_shuffle_of_all_records(lengths, seed):
    total = sum(lengths)
    in_shards, in_one = (
        [order.index(place, seed) for place in range(total)]
        for order in (Order(lengths, len(lengths)), Order([total], 1))
    )
    assert in_shards == in_one


@pytest.mark.parametrize("count", [999, 1000, 1001])
def test_few_records_and_many_are_shuffled_anew_in_each_epoch(count):
    order = Order([count], 1)
    epochs = [[order.index(place, seed) for place in range(count)] for seed in (1, 2)]
    assert all(sorted(epoch) == list(range(count)) for epoch in epochs)
    assert all(
        sum(a == b for a, b in zip(x, y, strict=True)) < 10 for x, y in (epochs, (epochs[0], range(count)))
    )


def test_epochs_have_windows_of_their_own():
    order = pickle.loads(pickle.dumps(Order([5] * 20, per_window=4)))
    epochs = [[window.shards for window in order.windows(seed)] for seed in (0, 1, None)]
    assert [len(windows) for windows in epochs] == [5, 5, 5]
    assert epochs[0] != epochs[1]
    assert np.concatenate(epochs[2]).tolist() == list(range(20)), "evaluation goes through shards in order"
    assert order.index(0, 2**32 - 1) in range(100)


@pytest.mark.parametrize("per_window", [1, 7, 5000])
def test_thousands_of_shards_cost_no_more_than_a_few(per_window):
    order = Order([200] * 5000, per_window)
    assert len({order.index(place, 3) for place in range(0, 10**6, 200)}) == 5000

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


@st.composite
def laned(draw):
    """An order in lanes, its shards, and a number of processes that divides the lanes."""
    counts = draw(st.lists(st.integers(1, 9), min_size=1, max_size=12))
    lanes = draw(st.integers(1, min(6, sum(counts))))
    batch_size = lanes * draw(st.integers(1, max(1, min(3, sum(counts) // lanes))))
    order = Order(counts, draw(st.integers(1, 4)), lanes=lanes, batch_size=batch_size)
    processes = draw(st.sampled_from([n for n in range(1, lanes + 1) if lanes % n == 0]))
    return pickle.loads(pickle.dumps(order)), counts, batch_size, lanes, processes


@given(laned(), st.integers(0, 10**6), st.integers(0, 2**30))
@settings(max_examples=60)
def test_lanes_bring_every_record_once_an_epoch_and_processes_share_the_shards(given_order, epoch, seed):
    order, counts, batch_size, lanes, processes = given_order
    total, epochs = sum(counts), 3
    seed_of = (seed + epoch).__add__
    for number in (epoch, epoch + 1):
        for ordered_by in (seed_of(number), None):
            records = [order.index(place, ordered_by, number) for place in range(total)]
            assert sorted(records) == list(range(total))
    tried = [order.index(total // 2, seed, epoch, attempt) for attempt in range(total)]
    assert sorted(tried) == list(range(total)), "any record can be replaced by any other"

    first = -(-epoch * total // batch_size) * batch_size
    end = first + epochs * total
    shard_of = np.repeat(np.arange(len(counts)), counts)
    per_window = max(len(window.shards) for window in order.windows(seed))
    share, fetches = batch_size // processes, 0
    for rows in (range(n * share, (n + 1) * share) for n in range(processes)):
        held: set[int] = set()
        for start in range(first, end, batch_size):
            wanted = order.shards_ahead(start, end, rows, seed_of)
            fetches += len(set(wanted) - held)
            held = set(wanted)
            assert len(held) <= len(wanted) <= 2 * per_window * lanes // processes
            for row in rows[:: batch_size // lanes]:  # the first of each lane
                number, place = divmod(start + row, total)
                assert start + row >= end or shard_of[order.index(place, seed_of(number), number)] in held
    # A run of three epochs that begins inside an epoch meets four.
    assert fetches <= (epochs + 1) * (len(counts) + (processes - 1) * per_window)


def test_lanes_of_whole_windows_take_turns_with_none():
    """Six shards of 4, three lanes of two rows: each row reads its own two shards, and the odd lane backwards."""
    order = Order([4] * 6, 1, lanes=3, batch_size=6)
    line = [window.shards[0] for window in order.windows(7)]
    rows = [[order.index(place, 7) // 4 for place in range(row, 24, 6)] for row in range(6)]
    assert [row[:2] for row in rows] == [[line[n]] * 2 for n in (0, 0, 3, 3, 4, 4)]
    assert [row[2:] for row in rows] == [[line[n]] * 2 for n in (1, 1, 2, 2, 5, 5)]


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

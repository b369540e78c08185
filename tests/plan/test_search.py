import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adafocus_jax.plan.search import LargestBatch, largest_batch


class Memory:
    """A compiler that counts how often it is asked."""

    def __init__(self, fixed, each, bend=0.0):
        self.fixed, self.each, self.bend, self.asked = fixed, each, bend, []

    def __call__(self, size):
        self.asked.append(size)
        return self.need(size)

    def need(self, size):
        return self.fixed + self.each * size + self.bend * size**1.5


def search(memory, capacity, multiple, first=1, **options):
    size = first * multiple
    return largest_batch(
        memory, capacity=capacity, multiple=multiple, tried=(size, memory.need(size)), **options
    )


@settings(max_examples=100)
@given(
    fixed=st.floats(0, 4), each=st.floats(0.05, 3), bend=st.floats(0, 0.1), first=st.integers(1, 20),
    multiple=st.sampled_from([1, 4, 64]),
)  # fmt: skip
def test_the_largest_is_found_in_few_compiles(fixed, each, bend, first, multiple):
    memory = Memory(fixed, each / multiple, bend / multiple**1.5)
    found = search(memory, 16.0, multiple, first, max_tries=16)
    best = max(size for size in range(0, 500 * multiple, multiple) if size == 0 or memory.need(size) <= 16)
    assert found == LargestBatch(best, best + multiple, exact=True)
    assert len(set(memory.asked)) == len(memory.asked)


def test_a_linear_need_takes_four_compiles():
    memory = Memory(1.3, 0.11)
    assert search(memory, 16.0, 4, first=8, max_tries=4) == LargestBatch(132, 136, exact=True)


@pytest.mark.parametrize("best", range(64, 92, 4))
@pytest.mark.parametrize("first", [8, 12, 16, 24])
def test_a_compiler_that_saves_memory_when_it_must(monkeypatch, best, first):
    """What activitynet needed on v5e:2x2: a line up to 48 videos, then flat; 15.9 where it just does not fit."""

    def need(size):
        return min(2 + 0.263 * size, 14.9 if size <= best else max(15.94, 0.163 * size))

    memory = Memory(0.0, 0.0)
    monkeypatch.setattr(memory, "need", need)
    assert search(memory, 15.75, 4, first) == LargestBatch(best, best + 4, exact=True)


def test_what_was_not_compiled_is_not_claimed():
    memory = Memory(0.0, 0.001)
    assert search(memory, 16.0, 4, max_tries=1) == LargestBatch(16, None, exact=False)
    assert memory.asked == [16]


def test_a_search_cut_short_tells_what_does_not_fit():
    memory = Memory(0.0, 1.0, bend=0.1)
    assert search(memory, 100.0, 1, first=60, max_tries=1) == LargestBatch(56, 60, exact=False)


def test_nothing_fits():
    assert search(Memory(20.0, 1.0), 16.0, 8) == LargestBatch(0, 8, exact=True)

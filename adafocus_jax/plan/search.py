"""The largest batch that fits, in as few compilations as a nearly linear need of memory allows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class LargestBatch:
    """What a search found."""

    batch_size: int
    """The largest that was compiled and fits; 0: none."""
    too_large: int | None
    """The smallest that was compiled and does not fit; None: all fitted."""
    exact: bool
    """No size lies between the two."""


def largest_batch(
    needed: Callable[[int], float],
    *,
    capacity: float,
    multiple: int,
    tried: tuple[int, float],
    max_tries: int = 6,
) -> LargestBatch:
    """Narrows down the largest batch whose need of memory is at most ``capacity``.

    The next size to try lies where a line through the two nearest sizes tried meets the capacity.

    Args:
      needed: from a batch size to the memory it takes; expensive. Grows with the batch.
      capacity: in the unit of ``needed``.
      multiple: batches are multiples of it: the number of devices.
      tried: a batch size and what it needs.
      max_tries: further calls of ``needed`` at most.

    Example:
      >>> largest_batch(lambda b: 2 + b, capacity=13.5, multiple=2, tried=(4, 6.0))
      LargestBatch(batch_size=10, too_large=12, exact=True)
    """
    known = {0: 0.0, tried[0]: tried[1]}
    found = _bounds(known, capacity, multiple)
    for _ in range(max_tries):
        if found.exact:
            break
        size = _next_size(known, capacity, multiple, found.batch_size, found.too_large)
        known[size] = needed(size)
        found = _bounds(known, capacity, multiple)
    return found


def _bounds(known: dict[int, float], capacity: float, multiple: int) -> LargestBatch:
    low = max(size for size, need in known.items() if need <= capacity)
    high = min((size for size, need in known.items() if need > capacity), default=None)
    return LargestBatch(low, high, exact=high is not None and high - low <= multiple)


def _next_size(known: dict[int, float], capacity: float, multiple: int, low: int, high: int | None) -> int:
    first, second = sorted(known, key=lambda size: abs(known[size] - capacity))[:2]
    slope = (known[second] - known[first]) / (second - first)
    guess = first + (capacity - known[first]) / slope if slope > 0 else 2.0 * low
    size = int(guess // multiple) * multiple
    most = high - multiple if high is not None else max(4 * low, multiple)
    return max(low + multiple, min(size, most))

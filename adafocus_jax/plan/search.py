"""The largest batch that fits, in as few compilations as a nearly linear need of memory allows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class LargestBatch:
    """What a search found."""

    batch_size: int
    """The largest that was compiled and fits; 0: none."""
    exact: bool
    """The next larger one was compiled too, and does not fit."""


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
      LargestBatch(batch_size=10, exact=True)
    """
    known = {0: 0.0, tried[0]: tried[1]}
    for _ in range(max_tries):
        low = max(size for size, need in known.items() if need <= capacity)
        high = min((size for size, need in known.items() if need > capacity), default=None)
        if high is not None and high - low <= multiple:
            break
        size = _next_size(known, capacity, multiple, low, high)
        known[size] = needed(size)
    low = max(size for size, need in known.items() if need <= capacity)
    return LargestBatch(low, exact=known.get(low + multiple, 0.0) > capacity)


def _next_size(known: dict[int, float], capacity: float, multiple: int, low: int, high: int | None) -> int:
    first, second = sorted(known, key=lambda size: abs(known[size] - capacity))[:2]
    slope = (known[second] - known[first]) / (second - first)
    guess = first + (capacity - known[first]) / slope if slope > 0 else 2.0 * low
    size = int(guess // multiple) * multiple
    most = high - multiple if high is not None else max(4 * low, multiple)
    return max(low + multiple, min(size, most))

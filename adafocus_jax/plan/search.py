"""The largest batch that fits, found in few compilations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class LargestBatch:
    """Result of a search."""

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
    max_tries: int = 8,
) -> LargestBatch:
    """Narrows down the largest batch whose need of memory is at most ``capacity``.

    Near the capacity a compiler rematerialises values to save memory: more fits than extrapolation from smaller sizes
    promises, and all of these need about the same. So sizes at least double until one does not fit, which a compiler
    reports quickly; from there the search goes down in proportion to the need, or by bisection where that gains little.

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
    if high is None:
        first, second = sorted(known)[-2:]
        slope = (known[second] - known[first]) / (second - first)
        size = second + (capacity - known[second]) / slope if slope > 0 else 0.0
        return max(2 * low, min(int(size // multiple) * multiple, 4 * low))
    halved = (low + high) // 2 // multiple * multiple
    above = sorted(size for size in known if size > high)
    if above and above[0] - high < (high - low) / 4:
        return halved  # rather than creep down in small steps
    size = min(int(high * capacity / known[high] // multiple) * multiple, high - multiple)
    if size == low:
        return low + multiple  # it should not fit, and the search is over
    return size if size > low else halved

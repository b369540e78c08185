"""Batches on their way to the devices, one ahead."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np

from adafocus_jax.types import VideoBatch


class Feed(Iterator[VideoBatch]):
    """Puts each batch on the devices while the one before it is used; an error comes in the place of its batch."""

    def __init__(
        self,
        batches: Iterable[Mapping[str, np.ndarray]],
        put: Callable[[Mapping[str, np.ndarray]], VideoBatch],
    ) -> None:
        """``put``: from a batch on the host to the same on the devices."""
        self._batches, self._put = iter(batches), put
        self._ahead: deque[VideoBatch] = deque()
        self._end: Exception | None = None

    @property
    def failed(self) -> bool:
        """Whether an error comes in place of the next batch. Known once the batch before it was taken."""
        return not self._ahead and not isinstance(self._end, StopIteration | None)

    def __next__(self) -> VideoBatch:
        while len(self._ahead) < 2 and self._end is None:
            try:
                self._ahead.append(self._put(next(self._batches)))
            except Exception as error:
                self._end = error
        if not self._ahead and self._end is not None:
            raise self._end
        return self._ahead.popleft()

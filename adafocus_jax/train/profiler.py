"""A ``jax.profiler`` trace of some steps, for TensorBoard's profile view or Perfetto."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import jax


class Profiler:
    """Traces steps ``first … first + count − 1`` into ``folder``; nothing where ``steps`` is None."""

    def __init__(self, steps: tuple[int, int] | None, folder: Path) -> None:
        first, count = steps or (0, 0)
        self._first, self._end, self._folder = first, first + count, folder
        self._trace = ExitStack()

    def before(self, step: int) -> None:
        """Called before each step, the first being 1; the step before has ended, or nearly."""
        if step == self._first:
            self._trace.enter_context(jax.profiler.trace(self._folder))
        elif step == self._end:
            self._trace.close()

    def __enter__(self) -> Profiler:
        return self

    def __exit__(self, *_: object) -> None:
        self._trace.close()

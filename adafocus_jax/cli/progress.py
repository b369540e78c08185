"""Progress of anything that takes more than a few seconds: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

QUIET_SEC = 10.0
"""Seconds between lines where there is no terminal."""


@contextmanager
def counted(total: int, what: str) -> Iterator[Callable[[int], None]]:
    """A function to call with the number of videos just done. Reports on standard error."""
    if sys.stderr.isatty():
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True)) as progress:
            task = progress.add_task(what, total=total)
            yield lambda count: progress.advance(task, count)
        return
    done, said = 0, time.monotonic()

    def advance(count: int) -> None:
        nonlocal done, said
        done += count
        if time.monotonic() - said > QUIET_SEC or done == total:
            said = time.monotonic()
            print(f"{what}: {done}/{total} videos", file=sys.stderr, flush=True)

    yield advance

"""Files that are replaced whole or not at all, the one progress bar, and what counts as a remote address.

Imports neither JAX nor NumPy, so that data workers start fast.
"""

from __future__ import annotations

import glob
import json
import os
import re
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from adafocus_jax.watchdog import Watchdog

StrPath = str | os.PathLike[str]
"""A path of the file system."""
QUIET_SEC = 10.0
"""Least time between two lines of progress where there is no terminal."""

_RANDOM_BYTES = 8


def is_remote(path: StrPath) -> bool:
    """Whether a path is the address of remote storage, which is read through fsspec.

    ``Path`` merges slashes, so one is enough.

    >>> is_remote("gs://bucket/records"), is_remote(Path("s3://bucket")), is_remote("/data/records")
    (True, True, False)
    """
    return re.match(r"[a-z][a-z0-9+.-]+:/", str(path), re.IGNORECASE) is not None


def partial_path(path: StrPath, folder: StrPath | None = None) -> Path:
    """A unique hidden name, beside ``path`` or in ``folder``, for what is to become ``path``.

    No two writers get the same one, on whichever machines they run.
    """
    path = Path(path)
    return Path(folder or path.parent) / f".{path.name}.{secrets.token_hex(_RANDOM_BYTES)}.partial"


def remove_partials(path: StrPath, folder: StrPath | None = None) -> None:
    """Removes what killed writers of ``path`` left behind. The caller makes sure that nobody is writing it."""
    path = Path(path)
    pattern = f".{glob.escape(path.name)}.{'?' * 2 * _RANDOM_BYTES}.partial"
    for partial in Path(folder or path.parent).glob(pattern):
        _remove(partial)


@contextmanager
def writing(
    path: StrPath, *, folder: StrPath | None = None, overwrite: bool = True, durable: bool = True
) -> Iterator[Path]:
    """Yields a path to write to; what was written there becomes ``path`` when the block ends without an error.

    A reader sees the old content or the new, never a part of it. A block that fails leaves nothing behind. Pipes and
    devices are written directly.

    Args:
      path: the file or folder to make; parent folders are made.
      folder: where the unfinished file lies, on the same file system; None: beside ``path``.
      overwrite: False: a file that exists by the end of the block stays, and the new one is dropped.
      durable: whether the content is on the disk, and survives a power failure, when this returns.

    Raises:
      OSError: there is no room or no permission.

    Example:
      >>> import tempfile
      >>> target = Path(tempfile.mkdtemp(), "figures.txt")
      >>> with writing(target) as partial:
      ...     _ = partial.write_text("1 2 3")
      >>> target.read_text()
      '1 2 3'
    """
    path = Path(os.path.realpath(path))  # Else a link would be replaced instead of the file it points to.
    if path.exists() and not path.is_file() and not path.is_dir():
        yield path
        return
    partial = partial_path(path, folder)
    for parent in {partial.parent, path.parent}:
        parent.mkdir(parents=True, exist_ok=True)
    try:
        yield partial
        commit(partial, path, overwrite=overwrite, durable=durable)
    except OSError as error:
        if error.errno is not None:  # one of the system's: a full disk does not say of what
            unnamed = error.filename is None or str(error.filename) == str(partial)
            error.filename = str(path) if unnamed else error.filename
        raise
    finally:
        _remove(partial)


def commit(partial: Path, path: Path, *, overwrite: bool = True, durable: bool = True) -> None:
    """Gives a finished file or folder its final name in one step; arguments as in ``writing``."""
    if durable and partial.is_file():
        _sync(partial)
    if overwrite:
        os.replace(partial, path)
    else:
        try:
            os.link(partial, path)
        except FileExistsError:
            return
        except OSError:  # A file system without hard links: of two writers at once, the last one wins.
            os.replace(partial, path)
    if durable:
        _sync(path.parent)


def write_bytes(path: StrPath, data: bytes, *, durable: bool = True) -> None:
    """Writes a file as ``writing`` does."""
    with writing(path, durable=durable) as partial:
        partial.write_bytes(data)


def write_text(path: StrPath, text: str) -> None:
    """Writes a UTF-8 file as ``writing`` does."""
    write_bytes(path, text.encode())


def write_json(path: StrPath, content: Any) -> None:
    """Writes ``json_text(content)`` as ``writing`` does."""
    write_text(path, json_text(content))


def json_text(content: Any) -> str:
    """Indented JSON that ends with a newline; scalars of NumPy and JAX become floats."""
    return json.dumps(content, indent=2, default=float) + "\n"


def read_json_lines(path: StrPath) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines; a line that a crash cut short is left out."""
    rows = []
    for line in Path(path).read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            rows.append(dict(json.loads(line)))
        except (TypeError, ValueError):
            continue
    return rows


@contextmanager
def progress(what: str, total: int | None, unit: str = "videos") -> Iterator[Callable[[int], None]]:
    """Shows progress on standard error: a bar on a terminal, else a line now and then and one at the end.

    Args:
      what: what is being done, such as "evaluating".
      total: the number of units to do; None: nobody knows yet.
      unit: plural noun.

    Yields:
      A function that takes the number of units just done. Where none are done for long, a line says so.
    """
    awaited = f"more {unit} ({what})"
    shown = _bar if sys.stderr.isatty() else _lines
    with Watchdog() as watchdog, watchdog.waiting_for(awaited), shown(what, total, unit) as advance:

        def count_and_advance(count: int) -> None:
            if count:
                watchdog.expect(awaited)
            advance(count)

        yield count_and_advance


@contextmanager
def _lines(what: str, total: int | None, unit: str) -> Iterator[Callable[[int], None]]:
    done, began = 0, time.monotonic()
    last = began

    def advance_by_lines(count: int) -> None:
        nonlocal done, last
        done += count
        now = time.monotonic()
        # Ever more rarely, so that a log of many hours stays readable.
        if count and (done == total or now - last > max(QUIET_SEC, (now - began) / 20)):
            last = now
            of_all = "" if total is None else f"/{total}"
            pace = _pace(done, total, now - began)
            print(f"{what}: {done}{of_all} {unit}{pace}", file=sys.stderr, flush=True)

    yield advance_by_lines
    if total is None:
        print(f"{what}: {done} {unit}", file=sys.stderr, flush=True)


def _pace(done: int, total: int | None, sec: float) -> str:
    if done == total or sec <= 0:
        return ""
    left = "" if total is None else f", {timedelta(seconds=round((total - done) * sec / done))} left"
    return f", {done / sec:.3g}/s{left}"


@contextmanager
def _bar(what: str, total: int | None, unit: str) -> Iterator[Callable[[int], None]]:
    from rich.console import Console  # A tenth of a second that workers and pipes do without.
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Speed(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.finished_speed or task.speed or 0:.3g} {unit}/s")

    columns = (what, BarColumn(), MofNCompleteColumn(), Speed(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as shown:
        task = shown.add_task("", total=total)
        yield lambda count: shown.advance(task, count)


def _remove(partial: Path) -> None:
    if partial.is_dir():
        shutil.rmtree(partial, ignore_errors=True)
    else:
        partial.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""One training run per workdir: a lock file with the host, the process and a heartbeat."""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from adafocus_jax.errors import UserError
from adafocus_jax.io import partial_path

log = logging.getLogger(__name__)

LOCK_FILE = "train.lock"
BEAT_SEC = 10.0
"""Seconds between two heartbeats, which touch the file."""
STALE_SEC = 60.0
"""A process without a heartbeat for so long counts as dead, on whichever machine it ran."""


class WorkdirLock:
    """Held, in a ``with`` block, by the only process that trains in ``workdir``; works on NFS."""

    def __init__(self, workdir: str | os.PathLike[str]) -> None:
        """Takes the lock, if need be from a process that died.

        Raises:
          UserError: another process trains in ``workdir``, or nothing can be written there.
        """
        self._path = Path(workdir) / LOCK_FILE
        self._owner = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.time()}
        self._ended = threading.Event()
        self.lost = False
        """Whether another process took the lock after this one had been suspended for long."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._take(workdir)
        except OSError as error:
            raise UserError(f"cannot write to workdir={workdir}: {error.strerror}") from error
        threading.Thread(target=self._beat, daemon=True).start()

    def __enter__(self) -> WorkdirLock:
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        with suppress(OSError):
            if self._read(self._path) in ({}, self._owner):
                self._path.unlink()

    def check(self) -> None:
        """Raises UserError where the lock was lost: what would be saved now belongs to the run of another process."""
        if self.lost:
            raise UserError(
                f"{self._path.parent} was taken over by another process while this one was suspended"
            )

    def _take(self, workdir: str | os.PathLike[str]) -> None:
        for _ in range(3):  # a stale file may be replaced by another process that starts, too
            try:
                descriptor = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
            except FileExistsError:
                self._remove_if_stale(workdir)
            else:
                self._write(descriptor)
                return
        raise UserError(f"workdir={workdir} is in use: another process is just starting to train in it")

    def _remove_if_stale(self, workdir: str | os.PathLike[str]) -> None:
        owner = self._read(self._path)
        name = f"process {owner.get('pid', '?')} on {owner.get('host', '?')}"
        with suppress(FileNotFoundError):
            age = self._now() - self._path.stat().st_mtime
            if age < STALE_SEC and not _is_dead(owner):
                raise UserError(
                    f"workdir={workdir} is in use by {name}, last seen {max(age, 0):.0f} s ago: stop that run first, "
                    "or take another workdir"
                )
            stale = partial_path(self._path)
            os.rename(self._path, stale)
            if self._read(stale) == owner:
                log.warning("the lock of %s, which died while training in %s, is removed", name, workdir)
            else:  # in between another one took it
                os.rename(stale, self._path)
            stale.unlink()

    def _now(self) -> float:
        """By the clock of the file system, which need not be that of this machine."""
        probe = partial_path(self._path)
        probe.touch()
        try:
            return probe.stat().st_mtime
        finally:
            probe.unlink()

    def _read(self, path: Path) -> dict[str, Any]:
        try:
            return dict(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError, FileNotFoundError):
            return {}

    def _write(self, descriptor: int | None = None) -> None:
        """Writes the owner, which is the heartbeat, too. On a full disk the owner follows with a later heartbeat."""
        with suppress(OSError):
            # Not opened to be truncated: whoever reads it meanwhile would find no owner.
            descriptor = descriptor or os.open(self._path, os.O_WRONLY)
            with open(descriptor, "w", encoding="utf-8") as file:
                file.write(json.dumps(self._owner))

    def _beat(self) -> None:
        while not self._ended.wait(BEAT_SEC):
            with suppress(OSError):  # storage that does not answer now may do so in a while
                if self._read(self._path) not in ({}, self._owner):
                    self.lost = True
                    return
                self._write()


def _is_dead(owner: dict[str, Any]) -> bool:
    """Whether it was a process of this machine that is gone."""
    if owner.get("host") != socket.gethostname():
        return False
    try:
        os.kill(int(owner["pid"]), 0)
    except ProcessLookupError:
        return True
    except (OSError, ValueError, KeyError):
        return False
    return False

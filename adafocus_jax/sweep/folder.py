"""The folder of a sweep: what it is, its trials, who runs which, and what came of them.

    DIR/sweep.json             the config, the sweep or search space, the objectives
    DIR/trials/0007/
      trial.json               number, overrides; of a search also what the sampler drew
      claim.json               who runs it: host, process, token, and a counter that the holder keeps raising
      run/                     the workdir of adafocus train
      spent.json               seconds so far, over all attempts
      result.json              state, objectives, metrics, reason; without it the trial is not finished

Every file is written whole or not at all. Nothing else holds state: kill any process at any time, and start again.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import shutil
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adafocus_jax.errors import UserError
from adafocus_jax.io import json_text, write_bytes
from adafocus_jax.watchdog import watched

log = logging.getLogger(__name__)

STALE_SEC = 120.0
"""A claim of another host whose counter stands still for so long is given up."""
NO_LOCKS = ("gcsfuse", "s3fs", "goofys", "rclone", "blobfuse")
"""File systems on which two hosts could claim one trial."""


@dataclass(frozen=True)
class Trial:
    """One trial as its folder tells it."""

    number: int
    folder: Path
    overrides: dict[str, Any]
    drawn: dict[str, Any]
    """Of a search: ``params`` and ``distributions``, as Optuna writes them."""
    claim: dict[str, Any] | None
    result: dict[str, Any] | None

    @property
    def workdir(self) -> Path:
        """The workdir of its training run."""
        return self.folder / "run"

    @property
    def state(self) -> str:
        """``waiting``, ``running``, or what its result says: ``done``, ``failed``, ``pruned``."""
        return self.result["state"] if self.result else "running" if self.claim else "waiting"

    @property
    def observed(self) -> tuple[str, int] | None:
        """Token and counter of its claim."""
        return (self.claim["token"], self.claim["beat"]) if self.claim else None


class SweepFolder:
    """Access to one sweep. Safe for any number of processes on any number of hosts that share a POSIX file system."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()
        self.trials_path = self.path / "trials"
        self._finished: dict[Path, tuple[int, Trial]] = {}
        """Trials with a result, and when it was written, so that a look at many costs no more than that."""

    def create(self, spec: Mapping[str, Any]) -> list[str]:
        """Writes ``sweep.json`` if it is not there.

        Returns:
          Of a sweep that is there: a sentence for everything in which ``spec`` differs from it.

        Raises:
          UserError: a file system without locks, or a folder of something else.
        """
        self.trials_path.mkdir(parents=True, exist_ok=True)
        if (kind := _file_system(self.path)) and any(name in kind for name in NO_LOCKS):
            raise UserError(
                f"{self.path} lies on {kind}, which knows no locks: two hosts could run one trial there"
            )
        with self.lock():
            if not (self.path / "sweep.json").exists():
                _write(self.path / "sweep.json", spec)
                return []
        known = self.spec()
        return [
            f"{key} was {known.get(key)!r}, now {spec[key]!r}" for key in spec if known.get(key) != spec[key]
        ]

    def spec(self) -> dict[str, Any]:
        """What ``create`` was given.

        Raises:
          UserError: there is no sweep here.
        """
        found = _read(self.path / "sweep.json")
        if found is None:
            raise UserError(
                f"no sweep in {self.path}: start one with adafocus sweep DIR --config FILE --sweep NAMES"
            )
        return found

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Held while a claim or a trial is made; the system frees it when its holder ends, however."""
        with open(self.path / ".lock", "w") as file:
            with watched(f"another process that writes {self.path}"):
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def add(self, overrides: Mapping[str, Any], drawn: Mapping[str, Any] | None = None) -> int:
        """Makes the next trial; call it under ``lock``."""
        number = 1 + max((int(path.name) for path in self._folders()), default=-1)
        scratch = self.trials_path / f".{uuid.uuid4().hex}"
        scratch.mkdir()
        try:
            _write(scratch / "trial.json", {"number": number, "overrides": overrides, "drawn": drawn or {}})
            scratch.rename(self.trials_path / f"{number:04d}")
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return number

    def trials(self) -> list[Trial]:
        """All trials, by number. One whose ``trial.json`` does not read counts as failed."""
        return [self._known(folder) for folder in self._folders()]

    def trial(self, number: int) -> Trial:
        """One trial."""
        return self._trial(self.trials_path / f"{number:04d}")

    def claim(self, number: int, observed: tuple[str, int] | None) -> Claim | None:
        """Claims a trial, if its claim is still the one that was ``observed`` (None: none) and it has no result."""
        with self.lock():
            trial = self.trial(number)
            if trial.result is not None or trial.observed != observed:
                return None
            past = trial.claim or {}
            return Claim(trial, attempts=past.get("attempts", 0) + 1)

    def _folders(self) -> list[Path]:
        with os.scandir(self.trials_path) as found:
            return sorted(Path(entry.path) for entry in found if entry.name.isdigit())

    def _known(self, folder: Path) -> Trial:
        try:
            written = (folder / "result.json").stat().st_mtime_ns
        except FileNotFoundError:
            return self._trial(folder)
        if folder not in self._finished or self._finished[folder][0] != written:
            self._finished[folder] = written, self._trial(folder)
        return self._finished[folder][1]

    def _trial(self, folder: Path) -> Trial:
        known = _read(folder / "trial.json")
        result = _read(folder / "result.json")
        if known is None:
            known = {"number": int(folder.name), "overrides": {}, "drawn": {}}
            result = {"state": "failed", "reason": f"{folder / 'trial.json'} does not read", "objectives": {}}
        claim = _read(folder / "claim.json")
        return Trial(known["number"], folder, known["overrides"], known["drawn"], claim, result)


class Claim:
    """The right to run a trial. Its holder calls ``beat`` now and then, and ends with ``finish`` or ``release``."""

    def __init__(self, trial: Trial, attempts: int) -> None:
        self.trial, self.attempts = trial, attempts
        self._file = trial.folder / "claim.json"
        self._token, self._count = uuid.uuid4().hex, 0
        self._lock, self._dropped = threading.Lock(), False
        self._before = (_read(trial.folder / "spent.json") or {}).get("seconds", 0.0)
        self._began = time.monotonic()
        self._who = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": process_start(os.getpid()),
            "token": self._token,
        }
        self._write()

    @property
    def seconds(self) -> float:
        """Spent on the trial, over all attempts."""
        return self._before + time.monotonic() - self._began

    def beat(self) -> bool:
        """Shows that its holder lives. False: somebody else has taken it over."""
        with self._lock:  # or a heartbeat in another thread could bring back a claim that is being dropped
            if self._dropped:
                return True
            if not self._is_mine():
                return False
            self._count += 1
            with contextlib.suppress(OSError):  # a full disk: who looks from this host sees the process
                self._write()
                _write(self.trial.folder / "spent.json", {"seconds": self.seconds})
            return True

    def finish(self, result: Mapping[str, Any]) -> None:
        """Writes the result, the last thing that a trial does."""
        _write(
            self.trial.folder / "result.json", {**result, "seconds": self.seconds, "attempts": self.attempts}
        )
        self._drop()

    def release(self) -> None:
        """Gives the unfinished trial back."""
        with contextlib.suppress(OSError):
            _write(self.trial.folder / "spent.json", {"seconds": self.seconds})
        self._drop()

    def _is_mine(self) -> bool:
        return (_read(self._file) or {}).get("token") == self._token

    def _drop(self) -> None:
        with self._lock:
            self._dropped = True
            if self._is_mine():
                self._file.unlink(missing_ok=True)

    def _write(self) -> None:
        _write(self._file, {**self._who, "beat": self._count, "attempts": self.attempts})


class Watch:
    """Tells the claims that live from those whose holder is gone; by this process' monotonic clock alone."""

    def __init__(self, stale_sec: float = STALE_SEC) -> None:
        self._stale_sec = stale_sec
        self._seen: dict[int, tuple[tuple[str, int], float]] = {}

    def is_stale(self, trial: Trial) -> bool:
        """Whether the trial's holder is gone: the process of this host, or a host whose counter stands still."""
        if trial.claim is None or trial.observed is None:
            return False
        if trial.claim["host"] == socket.gethostname():
            return process_start(trial.claim["pid"]) != trial.claim["started"]
        last, since = self._seen.get(trial.number, (None, 0.0))
        if last != trial.observed:
            self._seen[trial.number] = trial.observed, time.monotonic()
            return False
        return time.monotonic() - since > self._stale_sec


def process_start(pid: int) -> str | None:
    """When a process of this host began, in ticks since boot, so that a reused number is noticed; None: gone."""
    try:
        fields = (
            Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        )
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


def _file_system(path: Path) -> str:
    """The type of the file system that holds a path, as the system's table of mounts names it; empty: unknown."""
    try:
        mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
    except OSError:
        return ""
    above = [(len(at), kind) for at, kind in mounts if path.is_relative_to(at)]
    return max(above)[1] if above else ""


def _write(path: Path, value: Mapping[str, Any]) -> None:
    # A result has to survive a power failure; signs of life need not.
    write_bytes(path, json_text(value).encode(), durable=path.name == "result.json")


def _read(path: Path) -> dict[str, Any] | None:
    """None where there is none, or it does not read: damaged files are told, and count as missing."""
    try:
        found = json.loads(path.read_bytes())
        if isinstance(found, dict):
            return found
        raise ValueError("it holds no object")
    except FileNotFoundError:
        return None
    except ValueError as error:
        log.warning("%s does not read, and is taken for missing: %s", path, error)
        return None

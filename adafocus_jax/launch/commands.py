"""What each process of a launched command gets to know of the others."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from adafocus_jax.errors import UserError
from adafocus_jax.provenance import repeat_workdir

Words = list[str]
COORDINATOR_PORT = 8476
"""JAX's default changed from it to 8482 in 0.8.1; firewalls that were opened for it still are."""


def check_command(words: Sequence[str]) -> None:
    """Refuses what cannot be launched.

    Raises:
      UserError: nothing, an unknown command, or one that knows nothing of several processes.
    """
    known = (*_SHARED, "plan", "benchmark")
    if not words or words[0] not in known:
        given = f"{words[0]!r}" if words else "nothing"
        raise UserError(
            f"{given} cannot be launched: give one of {', '.join(known)} behind --, with its flags"
        )


def for_process(words: Sequence[str], index: int, count: int, coordinator: str) -> Words:
    """The command of one of ``count`` processes.

    >>> for_process(["prepare", "jester", "out"], 1, 4, "")
    ['prepare', 'jester', 'out', '--shard', '1/4']

    Raises:
      UserError: several processes, and the command runs in one.
    """
    if count == 1:
        return list(words)
    if words[0] not in _SHARED:
        raise UserError(f"{words[0]} runs in one process: launch it with one, or one of {', '.join(_SHARED)}")
    return [*words, *_SHARED[words[0]](index, count, coordinator)]


def after_all(words: Sequence[str], count: int) -> Words | None:
    """What one process has to run when all have ended well; None: nothing."""
    return [*words, "--finalize"] if words[0] == "prepare" and count > 1 else None


def workdir_of(words: Sequence[str]) -> Path | None:
    """The workdir that a command names; None: it names none."""
    for place, word in enumerate(words):
        if word == "--workdir" and place + 1 < len(words):
            return Path(words[place + 1])
        if word.startswith("--workdir="):
            return Path(word.partition("=")[2])
    if "--from-run" in words[:-1]:
        return repeat_workdir(words[words.index("--from-run") + 1])
    return None


def newest_step(workdir: Path | None) -> int:
    """The step of the newest checkpoint; −1: none."""
    folder = workdir / "checkpoints" if workdir else None
    if folder is None or not folder.is_dir():
        return -1
    return max((int(path.name) for path in folder.iterdir() if re.fullmatch(r"\d+", path.name)), default=-1)


def _join(index: int, count: int, coordinator: str) -> Words:
    return ["--coordinator", coordinator, "--num-processes", str(count), "--process-id", str(index)]


def _prepare(index: int, count: int, coordinator: str) -> Words:
    return ["--shard", f"{index}/{count}"]


def _sweep(index: int, count: int, coordinator: str) -> Words:
    return []  # launchers find each other in the folder that they share


JOINED = ("train", "evaluate")
"""Commands whose processes find each other through a coordinator."""
_SHARED: dict[str, Callable[[int, int, str], Words]] = {
    **dict.fromkeys(JOINED, _join),
    "prepare": _prepare,
    "sweep": _sweep,
}

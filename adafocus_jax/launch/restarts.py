"""What the end of a run's processes means: done, give up, or start again."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from adafocus_jax.errors import UserError

FINAL = {1: "failed", 2: "user error", 130: "interrupted"}
"""Statuses after which another start would end alike, or is not wanted."""
PREEMPTED = 128 + signal.SIGTERM
RESTARTED = {75: "lost a peer", 134: "aborted", 137: "killed", PREEMPTED: "stopped by a signal"}
"""Statuses after which a run resumes from its last checkpoint. Others, such as 139, are treated alike."""
MAX_RESTARTS = 3


@dataclass(frozen=True)
class Decision:
    """What to do, and why."""

    action: Literal["done", "stop", "restart"]
    status: int
    """With which the launcher ends, if it does."""
    worker: int | None = None
    """Whose status decided."""
    reason: str = ""


class Restarts:
    """Counts failures. Preemptions are not failures, and a checkpoint step that advances forgives those before it."""

    def __init__(self, limit: int = MAX_RESTARTS) -> None:
        """``limit``: failures without progress in between, 0 or more."""
        if limit < 0:
            raise UserError(f"max_restarts={limit} is not valid: give 0 or more")
        self._limit, self._failures, self._step = limit, 0, -1

    def decide(self, statuses: Mapping[int, int], step: int) -> Decision:
        """Decides on the exit statuses by worker, when all have ended.

        Args:
          statuses: worker to status; of a process killed by signal n, 128 + n.
          step: of the newest checkpoint; −1: none, or not known.

        >>> restarts = Restarts(limit=1)
        >>> restarts.decide({0: 143, 1: 0}, step=10).action, restarts.decide({0: 75, 1: 137}, step=20).action
        ('restart', 'restart')
        >>> restarts.decide({0: 137}, step=20).action, restarts.decide({0: 2, 1: 75}, step=20).worker
        ('stop', 0)
        """
        bad = {worker: status for worker, status in statuses.items() if status}
        if not bad:
            return Decision("done", 0)
        # A process that fails takes its peers along: the first cause is the one that is not a consequence.
        for status in (2, 1, 130):
            for worker, found in bad.items():
                if found == status:
                    return Decision("stop", status, worker, FINAL[status])
        if step > self._step:
            self._step, self._failures = step, 0
        worker, status = max(bad.items(), key=lambda item: item[1] not in (75, PREEMPTED))
        reason = RESTARTED.get(status, f"ended with status {status}")
        if set(bad.values()) != {PREEMPTED}:
            self._failures += 1
        if self._failures > self._limit:
            return Decision("stop", status, worker, f"{reason}, {self._failures} times without progress")
        return Decision("restart", status, worker, reason)

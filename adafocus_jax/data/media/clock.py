"""When frames are shown: time stamps as files have them become seconds from the first frame."""

from __future__ import annotations

# Frames that come this many intervals too early are out of order; more, and the clock has started anew.
_MAX_DISORDER = 3.0

# Streams without an index may jump ahead, where something was cut out: no frame is shown this long in one.
_MAX_GAP_SEC = 10.0


class Clock:
    """Makes the time of a video continuous: where its stamps start anew or jump ahead, it goes on."""

    def __init__(self, step_sec: float, *, may_jump: bool) -> None:
        """``step_sec``: between frames without stamps. ``may_jump``: long gaps are jumps of the clock."""
        self._step, self._may_jump = step_sec, may_jump
        self._offset: float | None = None
        self.time_sec = 0.0
        """Of the latest frame, from the first one."""
        self.until_sec = 0.0
        """Up to when the latest frame is shown."""
        self.was_reset = False
        """Whether the stamps started anew or jumped."""

    def start_at(self, stamp_sec: float) -> None:
        """Says which stamp the first frame has, where reading begins with a later one."""
        self._offset = stamp_sec

    def show(self, stamp_sec: float | None, duration_sec: float) -> None:
        """Takes the next frame's stamp (None: it has none) and for how long it is shown (0: unknown)."""
        if self._offset is None:
            time = 0.0
            self._offset = stamp_sec or 0.0
        else:
            time = self.until_sec if stamp_sec is None else stamp_sec - self._offset
            early, gap = self.time_sec - time, time - self.until_sec
            if early > _MAX_DISORDER * self._step or (self._may_jump and gap > _MAX_GAP_SEC):
                self._offset -= self.until_sec - time
                self.was_reset, time = True, self.until_sec
        self.time_sec = max(self.time_sec, time)
        self.until_sec = self.time_sec + (duration_sec or self._step)

"""One video and its classes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """One video and its classes."""

    path: str
    """Where it is: a video file, a folder of frames, or a volume."""
    labels: tuple[int, ...]
    """Class numbers, at least one."""
    name: str
    """The path below the video folder, with ``/``, and the segment: what the video is called from here on."""
    segment: tuple[float, float] | None = None
    """Start and end in the file, in seconds; None: all of it."""

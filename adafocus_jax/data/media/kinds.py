"""What counts as a video on disk: a video file, a folder of numbered images, or a volume."""

from __future__ import annotations

import logging
import os
import re
import time
from enum import Enum
from pathlib import Path

log = logging.getLogger(__name__)

VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg"),
    *(".wmv", ".flv", ".3gp", ".ts", ".mts", ".vob", ".ogv"),
)
VOLUME_SUFFIXES = (".nii", ".nii.gz")

_SUFFIX = re.compile(
    f"({'|'.join(map(re.escape, (*VIDEO_SUFFIXES, *VOLUME_SUFFIXES)))})$",
    re.IGNORECASE,
)

# A number right before the suffix; ``flow_x_00001.jpg`` and the like lie among the frames of some data sets.
_IMAGE = re.compile(r"(?P<series>.*?)(?P<number>\d+)\.(jpe?g|png)", re.IGNORECASE)
_FLOW = re.compile(r"(.*_)?flow(_|$)", re.IGNORECASE)

_NOTICE_SEC = 5.0


class Media(Enum):
    """The kinds of videos, the one to prefer first."""

    VIDEO = "video"
    VOLUME = "volume"
    FRAMES = "frames"


def media_kind(path: str | Path) -> Media:
    """What ``path`` is to be read as. Files of unknown suffix count as video files: FFmpeg may know them.

    >>> media_kind("brain.nii.gz"), media_kind("clip.bin")
    (<Media.VOLUME: 'volume'>, <Media.VIDEO: 'video'>)
    """
    if os.path.isdir(path):
        return Media.FRAMES
    return Media.VOLUME if os.fspath(path).lower().endswith(VOLUME_SUFFIXES) else Media.VIDEO


def media_stem(path: str | Path) -> str:
    """The last part of a path without the suffix that makes it a video or a volume.

    >>> media_stem("a/b.c.nii.gz"), media_stem("frames/1.5")
    ('b.c', '1.5')
    """
    return _SUFFIX.sub("", os.path.basename(path))


def image_number(name: str) -> tuple[str, int] | None:
    """The series and the number of an image: what stands before the digits, and the digits; None: not a frame.

    >>> image_number("image_00012.jpg"), image_number("flow_x_00012.jpg"), image_number("cover.png")
    (('image_', 12), None, None)
    """
    match = _IMAGE.fullmatch(name)
    return (match["series"], int(match["number"])) if match and not _FLOW.match(match["series"]) else None


class Notice:
    """Logs how far a search is, a line every few seconds: nothing of one that is soon over."""

    def __init__(self, what: str) -> None:
        """``what``: is being done."""
        self._what, self._count, self._said = what, 0, time.monotonic()

    def add(self, count: int) -> None:
        """Counts things, and says so if it is time."""
        self._count += count
        if time.monotonic() - self._said > _NOTICE_SEC:
            self._said = time.monotonic()
            log.info("%s: %d so far", self._what, self._count)


def find_media(root: str | Path, notice: Notice) -> list[Path]:
    """The videos, volumes and folders of frames below ``root``, sorted.

    Images that lie beside videos are taken for previews. ``root`` itself is never a folder of frames. ``notice``
    counts files and folders.
    """
    found: list[Path] = []
    for folder, folders, files in os.walk(root):
        notice.add(len(folders) + len(files))
        media = [name for name in files if name.lower().endswith((*VIDEO_SUFFIXES, *VOLUME_SUFFIXES))]
        if not media and folder != os.fspath(root) and any(map(image_number, files)):
            found.append(Path(folder))
        found += [Path(folder, name) for name in media]
    return sorted(found)

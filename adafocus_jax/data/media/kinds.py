"""What counts as a video on disk: a video file, a folder of numbered images, or a volume; and where they are."""

from __future__ import annotations

import logging
import os
import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from enum import Enum
from pathlib import Path

from adafocus_jax.data.media.formats import IMAGE_SUFFIXES, VIDEO_SUFFIXES, VOLUME_SUFFIXES
from adafocus_jax.data.media.names import is_hidden

log = logging.getLogger(__name__)

_SUFFIX = re.compile(
    f"({'|'.join(map(re.escape, (*VIDEO_SUFFIXES, *VOLUME_SUFFIXES)))})$",
    re.IGNORECASE,
)

# A number right before the suffix; ``flow_x_00001.jpg`` and the like lie among the frames of some data sets.
_IMAGE = re.compile(
    rf"(?P<series>.*?)(?P<number>\d+)({'|'.join(map(re.escape, IMAGE_SUFFIXES))})", re.IGNORECASE
)
_FLOW = re.compile(r"(.*_)?flow(_|$)", re.IGNORECASE)

_NOTICE_SEC = 5.0
_MAX_SUFFIXES = 6  # to name in a line


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
    if match is None or _FLOW.match(match["series"]) or is_hidden(name):
        return None
    return match["series"], int(match["number"])


class Search:
    """Logs how far a search for videos is, every few seconds, and at its end what it left out, in a line."""

    def __init__(self, what: str) -> None:
        """``what``: is being done."""
        self._what, self._count, self._said = what, 0, time.monotonic()
        self._left_out: dict[str, Counter[str]] = defaultdict(Counter)

    def add(self, count: int) -> None:
        """Counts things, and says so if it is time."""
        self._count += count
        if time.monotonic() - self._said > _NOTICE_SEC:
            self._said = time.monotonic()
            log.info("%s: %d so far", self._what, self._count)

    def leave_out(self, name: str, reason: str) -> None:
        """Counts a file or folder that is not taken."""
        suffix = os.path.splitext(name)[1].lower()
        self._left_out[reason][suffix or "without suffix"] += 1

    def end(self) -> None:
        """Says what was left out, if anything was."""
        if self._left_out:
            parts = (
                f"{counts.total()} {reason} ({_named(counts)})" for reason, counts in self._left_out.items()
            )
            log.info("%s: left out %s", self._what, "; ".join(parts))


def _named(counts: Counter[str]) -> str:
    named = [f"{count} {suffix}" for suffix, count in counts.most_common(_MAX_SUFFIXES)]
    return ", ".join([*named, "…"] if len(counts) > _MAX_SUFFIXES else named)


def find_media(root: str | Path, search: Search) -> list[Path]:
    """The videos, volumes and folders of frames below ``root``, sorted; ``search`` counts what else is there.

    Hidden files, and those that systems leave behind, do not count. Links are followed, but not back to a folder
    that they are in. Images that lie beside videos are taken for previews. ``root`` itself is never a folder of frames.
    """
    found: list[Path] = []
    for folder, files in _walk(root, search):
        media = [name for name in files if name.lower().endswith((*VIDEO_SUFFIXES, *VOLUME_SUFFIXES))]
        found += [Path(folder, name) for name in media]
        others = [name for name in files if not name.lower().endswith((*VIDEO_SUFFIXES, *VOLUME_SUFFIXES))]
        if not media and folder != os.fspath(root) and any(map(image_number, others)):
            found.append(Path(folder))
            others = [name for name in others if not name.lower().endswith(IMAGE_SUFFIXES)]
        for name in others:
            if not name.lower().endswith(IMAGE_SUFFIXES):
                search.leave_out(name, "files that are no videos")
            else:
                search.leave_out(name, "images beside videos" if media else "images in no folder of frames")
    return sorted(found)


def _walk(root: str | Path, search: Search) -> Iterator[tuple[str, list[str]]]:
    """Every folder from ``root`` on, with its files, without hidden ones; follows links, but not in circles."""
    above = {os.fspath(root): (os.path.realpath(root), frozenset[str]())}

    def fail(error: OSError) -> None:  # else a folder that does not read would be taken for an empty one
        if not isinstance(error, PermissionError):
            raise error
        search.leave_out(os.fspath(error.filename), "folders that are not readable for this user")

    for folder, folders, files in os.walk(root, onerror=fail, followlinks=True):
        search.add(len(folders) + len(files))
        real, outer = above.pop(folder)
        hidden = {name for name in [*folders, *files] if is_hidden(name)}
        for name in hidden:
            search.leave_out(name, "hidden or system files")
        folders[:] = [name for name in folders if name not in hidden]
        for name in list(folders):
            path = os.path.join(folder, name)
            target = os.path.realpath(path) if os.path.islink(path) else os.path.join(real, name)
            if target == real or target in outer:
                folders.remove(name)
                search.leave_out(name, "links back to a folder that they are in")
            else:
                above[path] = target, outer | {real}
        yield folder, [name for name in files if name not in hidden]

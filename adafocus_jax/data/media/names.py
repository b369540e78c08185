"""What the name of a file means, and names for the files that are written."""

from __future__ import annotations

import hashlib
import os
import unicodedata

_SYSTEM = {
    *("__macosx", "thumbs.db", "desktop.ini", "$recycle.bin", "system volume information"),
    *("@eadir", "#recycle", "lost+found"),
}
_MAX_BYTES = 200
"""Of a file name that is written: most systems take 255, some encrypted ones 143 more than the name has."""


def is_hidden(name: str) -> bool:
    """Whether a file or folder is hidden, or left behind by a system: never data of the user's.

    >>> is_hidden("._clip.mp4"), is_hidden("__MACOSX"), is_hidden("_clip.mp4")
    (True, True, False)
    """
    return name.startswith(".") or name.casefold() in _SYSTEM


def normal(name: str) -> str:
    """The name in composed form (NFC): the same name may be stored as ``é`` or as ``e`` and an accent."""
    return unicodedata.normalize("NFC", name)


def readable(name: str) -> str:
    """The name as text: bytes of it that are none become �.

    >>> readable("caf\\udce9 [id].mp4")
    'caf\ufffd [id].mp4'
    """
    return os.fsencode(name).decode(errors="replace")


class StoredNames:
    """Finds files below a folder by name, in whichever Unicode form the name is stored. Lists each folder once."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self._root = root
        self._listed: dict[str, dict[str, str]] = {}

    def find(self, name: str) -> str | None:
        """The path below the folder as it is stored; None: there is no such file."""
        if os.path.exists(os.path.join(self._root, name)):
            return name
        found = ""
        for part in name.split("/"):
            if (stored := self._list(found).get(normal(part))) is None:
                return None
            found = os.path.join(found, stored)
        return found

    def _list(self, folder: str) -> dict[str, str]:
        if folder not in self._listed:
            place = os.path.join(self._root, folder)
            names = os.listdir(place) if os.path.isdir(place) else []
            self._listed[folder] = {normal(name): name for name in names}
        return self._listed[folder]


def output_stem(name: str, max_bytes: int = _MAX_BYTES) -> str:
    """A file name, without suffix, for what is written about a video that is called ``name``.

    Where it is not the name itself, for a name that is too long, has separators or bytes that are no text, it ends
    with a hash by which such names still differ.

    >>> output_stem("clip [id]"), output_stem("run/clip"), len(output_stem("x" * 300))
    ('clip [id]', 'run_clip-48cc732c', 200)
    """
    text = normal(readable(name)).replace("/", "_").replace("\0", "_")
    if text == normal(name) and len(text.encode()) <= max_bytes:
        return text
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:8]
    kept = text.encode()[: max_bytes - len(digest) - 1].decode(errors="ignore")
    return f"{kept}-{digest}"

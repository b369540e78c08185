"""The folder of an export: its manifest, and the checksums by which a changed file is found."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from adafocus_jax.errors import UserError
from adafocus_jax.io import json_text, write_text

MANIFEST = "manifest.json"
FORMAT_VERSION = 1
StrPath = str | os.PathLike[str]


def require_new(out: StrPath) -> None:
    """Raises UserError where ``out`` exists."""
    if os.path.exists(out):
        raise UserError(f"{out} exists: remove it, or give another folder")


def write_manifest(folder: StrPath, content: dict[str, Any]) -> dict[str, Any]:
    """Writes the manifest of what lies in ``folder``: ``content``, and the SHA-256 of every file.

    Args:
      folder: which nothing but the export lies in.
      content: ``format`` and whatever a reader has to know.

    Returns:
      What ``read_manifest`` will say.
    """
    folder = Path(folder)
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    checksums = {name: _sha256(folder / name) for name in names if name != MANIFEST}
    text = json_text({"format_version": FORMAT_VERSION, **content, "sha256": checksums})
    write_text(folder / MANIFEST, text)
    return dict(json.loads(text))


def read_manifest(folder: StrPath) -> dict[str, Any]:
    """The manifest of an export, every file of which is checked.

    Raises:
      UserError: no manifest, one of a later version, or a file that is missing, changed or foreign.
    """
    folder = Path(folder)
    try:
        content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        version, checksums = content["format_version"], dict(content["sha256"])
    except FileNotFoundError:
        raise UserError(
            f"no {MANIFEST} in {folder}: give the folder that adafocus export has written"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder / MANIFEST} is damaged ({error}): export anew") from error
    if version != FORMAT_VERSION:
        raise UserError(
            f"{folder} is of format version {version}, and this is for {FORMAT_VERSION}: export anew"
        )
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {
        MANIFEST
    }
    for name in sorted(present | set(checksums)):
        if name not in present:
            raise UserError(f"{folder / name} is missing: export anew")
        if name not in checksums:
            raise UserError(f"{folder / name} is not part of the export: remove it")
        if _sha256(folder / name) != checksums[name]:
            raise UserError(f"{folder / name} has changed since it was exported: export anew")
    return dict(content)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

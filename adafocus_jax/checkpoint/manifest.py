"""The checksums beside the small files of a run, ``SHA256SUMS``: nothing that was changed or cut is believed."""

from __future__ import annotations

import functools
import hashlib
import logging
import time
from collections.abc import Mapping
from pathlib import Path

from adafocus_jax.errors import UserError
from adafocus_jax.io import write_text

log = logging.getLogger(__name__)

MANIFEST = "SHA256SUMS"
_ATTEMPTS, _WAIT_SEC = 3, 0.1
"""Another process may write a file and its checksum between the reading of the two."""


def write_listed(path: Path, text: str) -> None:
    """Writes a UTF-8 file as ``io.writing`` does, then its SHA-256 into ``SHA256SUMS`` beside it.

    While a file is replaced, both its checksums are listed, so that a process that is killed at any moment leaves a
    file that fits. ``sha256sum --check SHA256SUMS`` reads the list.
    """
    sums, new = _read_sums(path.parent), _sha256(text.encode())
    if path.exists():
        old = sums.get(path.name) or (_sha256(path.read_bytes()),)
        _write_sums(path.parent, {**sums, path.name: (*old, new)})
    write_text(path, text)
    _write_sums(path.parent, {**sums, path.name: (new,)})


def read_listed(path: Path, run: Path | None = None) -> str:
    """The text of a UTF-8 file that is as it was written; one that is not listed is taken, and a line says so.

    Args:
      path: of the file.
      run: the folder of which it is said, once, that files are not listed; None: that of the file.

    Raises:
      FileNotFoundError: it is not there, and was not.
      UserError: it is missing, or not what was written, or ``SHA256SUMS`` does not read.
    """
    for attempt in range(_ATTEMPTS):
        if attempt:
            time.sleep(_WAIT_SEC)
        listed = _read_sums(path.parent).get(path.name)
        if not path.exists() and listed:
            continue
        data = path.read_bytes()
        if not listed:
            _say_not_listed(run or path.parent)
        if not listed or _sha256(data) in listed:
            return data.decode()
    what = "differs from what was written: its checksum does not match" if path.exists() else "is missing"
    raise UserError(
        f"{path} {what}; copy the file there again (was it edited on purpose? then put what sha256sum says of it into "
        f"{MANIFEST}; adafocus convert --set edits settings)"
    )


def is_listed(path: Path) -> bool:
    """Whether ``SHA256SUMS`` beside a file has its checksum."""
    return path.name in _read_sums(path.parent)


@functools.cache
def _say_not_listed(run: Path) -> None:
    log.info("%s holds files without checksums, as earlier versions wrote them: taken as they are", run)


def _read_sums(folder: Path) -> dict[str, tuple[str, ...]]:
    """Checksums by file name: one, or while a file is replaced two."""
    path, sums = folder / MANIFEST, dict[str, tuple[str, ...]]()
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            checksum, name = line.split("  ", 1)
            sums[name] = (*sums.get(name, ()), checksum)
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise UserError(
            f"{path} does not read: {error}; copy it there again, or remove it if the files beside it are right"
        ) from error
    return sums


def _write_sums(folder: Path, sums: Mapping[str, tuple[str, ...]]) -> None:
    lines = [f"{checksum}  {name}\n" for name in sorted(sums) for checksum in sums[name]]
    write_text(folder / MANIFEST, "".join(lines))


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()

"""Files behind an address, such as ``gs://bucket/name``, through fsspec; and where copies of them are kept."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adafocus_jax.errors import UserError
from adafocus_jax.io import is_remote

_WAITS_SEC = (0.5, 1.5, 4.5)
"""Between one attempt to fetch a file and the next."""
_PACKAGES = {
    **dict.fromkeys(("gs", "gcs"), "'adafocus_jax[gs]'"),
    **dict.fromkeys(("s3", "s3a"), "'adafocus_jax[s3]'"),
    **dict.fromkeys(("http", "https"), "aiohttp requests"),
}


def absolute(path: str) -> str:
    """The absolute path; an address, or nothing, as it is."""
    return path if not path or is_remote(path) else os.path.abspath(path)


@dataclass(frozen=True)
class CacheOptions:
    """Where shards of remote records are kept, and how much of them."""

    folder: str = ""
    """Empty: ``adafocus_jax`` in the user's cache folder. May be shared by runs and data sets."""
    limit_gb: float = 50.0
    """Of all shards in the folder, in 10⁹ bytes; those that are just being fetched come on top."""

    @property
    def root(self) -> Path:
        """The folder."""
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        return Path(self.folder).expanduser() if self.folder else Path(home, "adafocus_jax")


def file_checksum(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch_file(url: str, path: Path, checksum: str | None) -> None:
    """Copies a remote file to ``path``; tries again where that fails or the SHA-256 is another.

    Raises:
      UserError: there is no such file, no package for such addresses, no room, or it fails again and again.
    """

    def fetch(filesystem: Any, remote: str) -> str | None:
        filesystem.get_file(remote, str(path))
        if checksum in (None, file_checksum(path)):
            return None
        return "is not what prepare wrote: its checksum differs; copy the records there again"

    try:
        _trying(url, "fetched", "does not come", fetch)
    except OSError as error:
        raise UserError(
            f"no room for {url} in {path.parent}: set data.cache_dir, or less data.cache_gb"
        ) from error


def store_file(path: Path, url: str) -> None:
    """Copies a file to a remote place; tries again where that fails or the size there is another.

    Raises:
      UserError: no such bucket, no rights, no room, no package for such addresses, or it fails again and again.
    """

    def store(filesystem: Any, remote: str) -> str | None:
        filesystem.put_file(str(path), remote)
        if remote_size(url) == path.stat().st_size:
            return None
        return "has another size than what was sent; run the same command again"

    try:
        _trying(url, "sent", "does not arrive", store)
    except OSError as error:
        raise UserError(f"no room for {url}: make some there, and run the same command again") from error


def read_remote(url: str) -> bytes | None:
    """The content of a remote file; None: there is none.

    Raises:
      UserError: as ``fetch_file``.
    """
    return _found(url, lambda filesystem, remote: filesystem.cat_file(remote))


def remote_size(url: str) -> int | None:
    """The bytes of a remote file; None: there is none.

    Raises:
      UserError: as ``fetch_file``.
    """
    return _found(url, lambda filesystem, remote: filesystem.info(remote)["size"])


def remote_names(url: str) -> list[str]:
    """The names of what lies in a remote folder; none where there is no such folder.

    Raises:
      UserError: as ``fetch_file``.
    """
    paths = _found(url, lambda filesystem, remote: filesystem.ls(remote, detail=False)) or []
    return sorted({path.rstrip("/").rpartition("/")[2] for path in paths})


def _found(url: str, look: Callable[[Any, str], Any]) -> Any:
    found: list[Any] = []

    def attempt(filesystem: Any, remote: str) -> None:
        filesystem.invalidate_cache()  # Others write there, too.
        with contextlib.suppress(FileNotFoundError):
            found.append(look(filesystem, remote))

    _trying(url, "asked for", "does not come", attempt)
    return found[0] if found else None


def _trying(url: str, tried: str, fails: str, attempt: Callable[[Any, str], str | None]) -> None:
    """Makes an attempt until it returns no reason to make another one.

    Raises:
      OSError: there is no room.
      UserError: it fails again and again, or in a way that trying again does not help.
    """
    filesystem, remote = _filesystem(url)
    for wait_sec in (*_WAITS_SEC, None):
        try:
            if (reason := attempt(filesystem, remote)) is None:
                return
        except (FileNotFoundError, PermissionError) as error:
            what = "is missing" if isinstance(error, FileNotFoundError) else "may not be read or written"
            raise UserError(f"{url} {what}: {error}; check the address and the rights") from error
        except Exception as error:  # Every kind of storage has network errors of its own.
            full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
            if full or isinstance(error, UserError):
                raise
            name = type(error).__name__
            if "Credential" in name:
                raise UserError(f"no credentials for {url}: {name}: {error}; log in first") from error
            reason = f"{fails}: {name}: {error}; check the network, and start again"
        if wait_sec is not None:
            time.sleep(wait_sec)
    raise UserError(f"{url}, {tried} {len(_WAITS_SEC) + 1} times, {reason}")


def _filesystem(url: str) -> tuple[Any, str]:
    import fsspec  # Those who read local files do not wait for it.

    scheme = url.partition(":")[0].lower()
    try:
        # A bucket has no folders to be made first.
        return fsspec.core.url_to_fs(url, **({"auto_mkdir": True} if scheme == "file" else {}))
    except ImportError as error:
        package = _PACKAGES.get(scheme, f"what fsspec asks for ({error})")
        raise UserError(f"{scheme}:// needs another package: pip install {package}") from error
    except ValueError as error:
        raise UserError(f"{url} cannot be read, {error}: give a folder, gs://… or s3://…") from error

"""Files behind an address, such as ``gs://bucket/name``, through fsspec; and where copies of them are kept."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adafocus_jax.errors import UserError
from adafocus_jax.io import is_remote
from adafocus_jax.watchdog import watched

log = logging.getLogger(__name__)

_WAITS_SEC = (0.5, 1.5, 4.5)
"""Between one attempt to fetch a file and the next."""
_NOTICE_SEC = 10.0
"""Of silence, before a line says what is being waited for."""
_S3_OPTIONS = {
    # A minute for each of five attempts, of which each is tried five times, would be a silent half hour.
    "config_kwargs": {
        "connect_timeout": 10,
        "read_timeout": 30,
        "retries": {"mode": "standard", "total_max_attempts": 2},
    }
}
_WITHOUT_CREDENTIALS = ("NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError")
"""Errors of the clients of S3 and Google Cloud Storage, by name: their packages need not be installed."""
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


def fetch_file(url: str, path: Path, checksum: str | None, *, retry: bool = True) -> None:
    """Copies a remote file to ``path``; tries again where that fails or the SHA-256 is another, and says so.

    Raises:
      UserError: there is no such file, no package for such addresses, no room, no credentials, or it fails again and
        again, or once without ``retry``.
    """

    def fetch(filesystem: Any, remote: str) -> str | None:
        filesystem.get_file(remote, str(path))
        if checksum in (None, file_checksum(path)):
            return None
        return "is not what prepare wrote: its checksum differs; copy the records there again"

    try:
        _trying(url, "fetched", "does not come", fetch, retry=retry)
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


def _trying(
    url: str, tried: str, fails: str, attempt: Callable[[Any, str], str | None], *, retry: bool = True
) -> None:
    """Runs ``attempt`` on a file system and its path until it returns None, not why it failed; says what it waits for.

    Raises:
      UserError: no such file, no rights, no credentials, no package for such addresses, or it fails again and again.
      OSError: no room.
    """
    filesystem, remote = _filesystem(url)
    waits = _WAITS_SEC if retry else ()
    for wait_sec in (*waits, None):
        try:
            with watched(url, _NOTICE_SEC):
                reason = attempt(filesystem, remote)
            if reason is None:
                return
        except (FileNotFoundError, PermissionError) as error:
            what = "is missing" if isinstance(error, FileNotFoundError) else "may not be read or written"
            raise UserError(f"{url} {what}: {error}; check the address and the rights") from error
        except Exception as error:  # Every kind of storage has network errors of its own.
            full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
            if full or isinstance(error, UserError):
                raise
            if type(error).__name__ in _WITHOUT_CREDENTIALS:
                raise UserError(
                    f"{url} needs credentials ({error}): for S3 set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
                    "run aws configure; for Google Cloud Storage run gcloud auth application-default login"
                ) from error
            place = " and, for another server than Amazon's, AWS_ENDPOINT_URL" if url.startswith("s3") else ""
            reason = f"{fails}: {type(error).__name__}: {error}; check the network{place}, and start again"
        if wait_sec is not None:
            log.warning("%s %s: trying again in %g s", url, reason.partition(";")[0], wait_sec)
            time.sleep(wait_sec)
    times = f", {tried} {len(waits) + 1} times," if waits else ""
    raise UserError(f"{url}{times} {reason}")


def _filesystem(url: str) -> tuple[Any, str]:
    import fsspec  # Those who read local files do not wait for it.

    scheme = url.partition(":")[0].lower()
    try:
        # A bucket has no folders to be made first.
        options = {"auto_mkdir": True} if scheme == "file" else _S3_OPTIONS if scheme in ("s3", "s3a") else {}
        filesystem, remote = fsspec.core.url_to_fs(url, **options)
    except ImportError as error:
        package = _PACKAGES.get(scheme, f"what fsspec asks for ({error})")
        raise UserError(f"{scheme}:// needs another package: pip install {package}") from error
    except ValueError as error:
        raise UserError(f"{url} cannot be read, {error}: give a folder, gs://… or s3://…") from error
    if scheme in ("s3", "s3a"):
        filesystem.retries = 1  # its own, on top of those of its client and of ``fetch_file``
    return filesystem, remote

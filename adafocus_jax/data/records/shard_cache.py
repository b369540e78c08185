"""Files of a remote folder of records, fetched, verified, and kept on disk as long as there is room."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from array_record.python.array_record_module import ArrayRecordReader

from adafocus_jax.data.records.checksums import damage, is_shard, read_checksums
from adafocus_jax.data.records.reader import open_shard
from adafocus_jax.data.records.schema import CHECKSUMS, SCRATCH
from adafocus_jax.data.records.storage import fetch_file
from adafocus_jax.errors import UserError
from adafocus_jax.io import commit, remove_partials, writing
from adafocus_jax.watchdog import watched


def fetch_metadata(url: str, root: Path, *, retry: bool = True) -> tuple[Path, dict[str, str]]:
    """Fetches what describes a remote folder of records into a folder below ``root``, of its own for each version.

    Without ``retry`` storage that cannot be reached is an error at once.

    Returns:
      The folder, and the checksums of all files by name.

    Raises:
      UserError: there are no finished records, or they do not come.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root) as scratch:
            listing = Path(scratch, CHECKSUMS)
            fetch_file(f"{url}/{CHECKSUMS}", listing, None, retry=retry)
            sums = _read_remote_checksums(url, listing)
            digest = hashlib.sha256(url.encode() + listing.read_bytes()).hexdigest()
            folder = root / f"{url.rpartition('/')[2]}-{digest[:16]}"
            for locks in (root / SCRATCH, folder / SCRATCH):
                locks.mkdir(parents=True, exist_ok=True)
            commit(listing, folder / CHECKSUMS)
            # All are there and whole, or the next one to ask fetches what is not.
            names = [name for name, checksum in sums.items() if not is_shard(name)]
            for name in (name for name in names if damage(folder / name, sums[name])):
                fetch_file(f"{url}/{name}", Path(scratch, name), sums[name])
                commit(Path(scratch, name), folder / name)
    except OSError as error:
        raise UserError(f"cannot keep remote records in {root}: {error}; set data.cache_dir") from error
    return folder, sums


def _read_remote_checksums(url: str, file: Path) -> dict[str, str]:
    try:
        return read_checksums(file)
    except ValueError as error:
        raise UserError(f"{url}/{CHECKSUMS} does not read: {error}; copy the records there again") from error


@dataclass(frozen=True)
class ShardCache:
    """The shards of one remote folder. Pickles; processes and threads that share the folder fetch each shard once."""

    url: str
    folder: Path
    """In the cache's root; see ``fetch_metadata``."""
    checksums: dict[str, str]
    limit_bytes: int

    def open(self, name: str) -> ArrayRecordReader:
        """A reader of the shard, fetched if need be. It can be read to its end even if the shard goes meanwhile.

        Raises:
          UserError: see ``fetch_file``.
        """
        path = self.folder / name
        while True:
            with _lock(path, fcntl.LOCK_SH), contextlib.suppress(FileNotFoundError):
                os.utime(path)
                return open_shard(str(path))
            self.fetch(name)

    def fetch(self, name: str) -> None:
        """Sees to it that the shard is there, and is the last one to go.

        Raises:
          UserError: see ``fetch_file``.
        """
        path = self.folder / name
        with contextlib.suppress(FileNotFoundError):
            return os.utime(path)
        with _lock(path, fcntl.LOCK_EX):
            if not path.exists():
                self._fetch(path)
        self._make_room(path)

    def release(self, name: str) -> None:
        """Makes the shard the first one to go where room is needed; whoever reads it again keeps it."""
        with contextlib.suppress(FileNotFoundError):
            os.utime(self.folder / name, (0, 0))

    def _fetch(self, path: Path) -> None:
        remove_partials(path, self.folder / SCRATCH)
        with writing(path, folder=self.folder / SCRATCH) as partial:
            fetch_file(f"{self.url}/{path.name}", partial, self.checksums.get(path.name))

    def _make_room(self, kept: Path) -> None:
        """Removes the least recently used shards of the whole root, but for those that are being opened or fetched."""
        root = self.folder.parent
        with _lock(
            root / "room", fcntl.LOCK_EX
        ):  # One after another: two at once would remove more than need be.
            found = []
            for path in root.glob("*/*array_record-*"):
                with contextlib.suppress(FileNotFoundError):
                    found.append((path.stat().st_mtime_ns, path.stat().st_size, path))
            total = sum(size for _, size, _ in found)
            for _, size, path in sorted(found):
                if total > self.limit_bytes and path != kept:
                    with contextlib.suppress(BlockingIOError), _lock(path, fcntl.LOCK_EX | fcntl.LOCK_NB):
                        path.unlink(missing_ok=True)
                        total -= size


@contextlib.contextmanager
def _lock(path: Path, how: int) -> Iterator[None]:
    """Holds the lock of a shard or of the root; the system frees it when its holder ends, however."""
    with open(path.parent / SCRATCH / f"{path.name}.lock", "w") as file:
        with watched(f"another process that fetches or removes {path.name}"):
            fcntl.flock(file, how)
        yield

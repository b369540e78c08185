"""Where prepared records go: a local folder, or a remote one that finished files are copied to."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

from adafocus_jax.data.prepare.manifest import PLAN_FILE, Plan, claim, read_plan
from adafocus_jax.data.records.schema import INFO_FILE, is_complete
from adafocus_jax.data.records.storage import (
    CacheOptions,
    fetch_file,
    file_checksum,
    read_remote,
    remote_names,
    remote_size,
    store_file,
)
from adafocus_jax.io import is_remote, write_bytes


@dataclass(frozen=True)
class Place:
    """A folder of records to be."""

    folder: Path
    """Where files are written."""
    url: str = ""
    """The remote folder that they are copied to when they are finished; empty: they stay."""

    def __str__(self) -> str:
        return self.url or str(self.folder)

    def names(self) -> list[str]:
        """What lies there; nothing where there is no such folder."""
        if self.url:
            return remote_names(self.url)
        return [path.name for path in self.folder.iterdir()] if self.folder.is_dir() else []

    def claim(self, plan: Plan) -> None:
        """Records the plan there, or compares it with the one that is there.

        Raises:
          UserError: see ``manifest.claim``; or the remote folder does not take it.
        """
        is_first = bool(self.url) and not self._fetch_plan()
        claim(self.folder, plan, str(self))
        if is_first:
            self.publish(PLAN_FILE)
            self._fetch_plan()  # Of two that were first at once, one sees the other's.
            claim(self.folder, plan, str(self))

    def plan(self) -> Plan:
        """The plan that the records were started with.

        Raises:
          UserError: there is none.
        """
        if self.url:
            self._fetch_plan()
        return read_plan(self.folder, str(self))

    def _fetch_plan(self) -> bool:
        content = read_remote(f"{self.url}/{PLAN_FILE}")
        if content is None:
            (self.folder / PLAN_FILE).unlink(missing_ok=True)  # of records that are no longer there
            return False
        write_bytes(self.folder / PLAN_FILE, content)
        return True

    def publish(self, *names: str) -> None:
        """Copies finished files to the remote folder, if there is one, in this order."""
        if self.url:
            for name in names:
                store_file(self.folder / name, f"{self.url}/{name}")

    def checksum(self, name: str) -> str:
        """SHA-256 of a file there; of a remote one, every byte is fetched, and not kept."""
        path = self.folder / name
        if not self.url:
            return file_checksum(path)
        try:
            fetch_file(f"{self.url}/{name}", path, None)
            return file_checksum(path)
        finally:
            path.unlink(missing_ok=True)

    def is_complete(self) -> bool:
        """Whether the records are ready to be read."""
        if self.url:
            return remote_size(f"{self.url}/{INFO_FILE}") is not None
        return is_complete(self.folder)

    def close(self) -> None:
        """Removes what is only on the way, once all of it is there."""
        if self.url:
            shutil.rmtree(self.folder, ignore_errors=True)


def open_place(out: str | Path) -> Place:
    """The place for records in ``out``. What goes to a remote folder is written below ``CacheOptions().root`` first."""
    if not is_remote(out):
        return Place(Path(out))
    url = str(out).rstrip("/")
    digest = hashlib.sha256(url.encode()).hexdigest()
    return Place(CacheOptions().root / "prepare" / f"{url.rpartition('/')[2]}-{digest[:16]}", url)

"""A bucket that counts what is fetched from it, and fails on order."""

import errno
import os
import shutil
import time
from collections import Counter
from pathlib import Path
from typing import ClassVar

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem


class Storage(LocalFileSystem):
    """A bucket on the local disk, with a network that fails on order."""

    protocol = "storage"
    cachable = False
    fetched: ClassVar[Counter[str]] = Counter()
    trouble: ClassVar[list[str]] = []
    """What becomes of the next fetches of shards, first to last."""

    def get_file(self, rpath, lpath, **kwargs):
        name = os.path.basename(rpath)
        self.fetched[name] += 1
        trouble = self.trouble.pop(0) if self.trouble and "array_record" in name else None
        if trouble == "timeout":
            raise TimeoutError("the bucket sleeps")
        if trouble == "full":
            raise OSError(errno.ENOSPC, "No space left on device")
        shutil.copy(self._strip_protocol(rpath), lpath)
        if trouble == "flip":
            Path(lpath).write_bytes(Path(lpath).read_bytes()[:-1] + b"?")
        if trouble == "slow":
            time.sleep(0.2)


@pytest.fixture
def storage(monkeypatch) -> type[Storage]:
    monkeypatch.setattr("adafocus_jax.data.records.storage._WAITS_SEC", (0.0, 0.0, 0.0))
    monkeypatch.setattr(Storage, "fetched", Counter())
    monkeypatch.setattr(Storage, "trouble", [])
    fsspec.register_implementation("storage", Storage, clobber=True)
    return Storage

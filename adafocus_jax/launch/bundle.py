"""The code of a run as one file: the commit, with what is changed in the working tree on top."""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

from adafocus_jax.errors import UserError
from adafocus_jax.io import json_text
from adafocus_jax.provenance import PACKED, describe_commit
from adafocus_jax.watchdog import watched

MAX_BYTES = 64 * 2**20
_GIT_SEC, _NOTICE_SEC = 300.0, 10.0


@dataclass(frozen=True)
class Bundle:
    """A tarball that unpacks to the repository's files."""

    data: bytes
    commit: str
    """The commit, with ``+diff`` where the working tree differs."""

    @property
    def digest(self) -> str:
        """SHA-256 of ``data``."""
        return hashlib.sha256(self.data).hexdigest()


def make_bundle(repository: Path) -> Bundle:
    """Bundles the files that git tracks or would (not ignored), as they are now.

    Equal trees at equal commits give equal bytes. The copy tells its commit and diff (``describe_code``) without git.

    Raises:
      UserError: no repository, more than ``MAX_BYTES``, or git does not answer.
    """
    names = _git(repository, "ls-files", "--cached", "--others", "--exclude-standard", "-z").split("\0")
    commit = _git(repository, "rev-parse", "HEAD").strip()
    changed = bool(_git(repository, "status", "--porcelain").strip())
    data = io.BytesIO()
    # Without compression: its bytes differ from version to version, and code is small.
    with tarfile.open(fileobj=data, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in sorted(filter(None, names)):
            path = repository / name
            if path.is_symlink() or path.is_file():
                entry = tar.gettarinfo(path, arcname=name)
                entry.uid = entry.gid = entry.mtime = 0
                entry.uname = entry.gname = ""
                entry.mode = 0o755 if entry.mode & 0o100 else 0o644
                with open(path, "rb") as file:
                    tar.addfile(entry, file if entry.isfile() else None)
        package = repository / "adafocus_jax"
        if package.is_dir():
            told = json_text(describe_commit(package)).encode()
            entry = tarfile.TarInfo(f"{package.name}/{PACKED}")
            entry.size = len(told)
            tar.addfile(entry, io.BytesIO(told))
    if data.tell() > MAX_BYTES:
        raise UserError(
            f"the code in {repository} is {data.tell() >> 20} MiB, more than {MAX_BYTES >> 20}: have git ignore data"
        )
    return Bundle(data.getvalue(), commit + ("+diff" if changed else ""))


def _git(repository: Path, *words: str) -> str:
    command = ["git", "-C", str(repository), *words]
    try:
        with watched(f"git {words[0]} in {repository}", _NOTICE_SEC):
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_GIT_SEC
            )
    except subprocess.TimeoutExpired as error:
        raise UserError(
            f"git {words[0]} does not answer in {error.timeout:.0f} s: see whether {repository} can be read"
        ) from error
    if done.returncode:
        raise UserError(f"{repository} is no git repository that reads: {' '.join(done.stderr.split())}")
    return done.stdout

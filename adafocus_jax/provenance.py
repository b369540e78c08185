"""Which code this is: a commit and what was changed on top, by git or by what a launcher packed with a copy."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import subprocess
from pathlib import Path
from typing import Any

from adafocus_jax import __version__

PACKAGE = Path(__file__).parent
PACKED = "commit.json"
"""Name of the file in the package's folder that tells ``commit`` and ``diff`` where there is no git."""
MAX_DIFF_BYTES = 2**20


def describe_code(package: Path = PACKAGE) -> dict[str, str]:
    """What identifies the code in ``package``.

    Returns:
      ``version``; ``commit``, empty where nothing tells it; ``diff`` of the package's folder against the commit, new
      files included, for ``git apply``; ``sha256`` over its Python files, whatever git says.
    """
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return {"version": __version__, **describe_commit(package), "sha256": digest.hexdigest()}


def describe_commit(package: Path = PACKAGE) -> dict[str, str]:
    """``commit`` and ``diff`` alone, both empty where nothing tells them."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return _of_checkout(package)
    with contextlib.suppress(OSError, ValueError):
        packed = json.loads((package / PACKED).read_text(encoding="utf-8"))
        return {name: str(packed[name]) for name in ("commit", "diff")}
    with contextlib.suppress(importlib.metadata.PackageNotFoundError, ValueError, TypeError, KeyError):
        installed = importlib.metadata.distribution(package.name)  # pip install git+…
        if Path(str(installed.locate_file(package.name))).resolve() == package.resolve():
            about: Any = json.loads(installed.read_text("direct_url.json") or "{}")
            return {"commit": str(about["vcs_info"]["commit_id"]), "diff": ""}
    return {"commit": "", "diff": ""}


def repeat_workdir(run: str | os.PathLike[str]) -> Path:
    """Where the run of another workdir is repeated unless a workdir is given.

    >>> repeat_workdir("runs/mine/").as_posix()
    'runs/mine-again'
    """
    path = Path(run)
    return path.with_name(f"{path.name}-again")


def _of_checkout(package: Path) -> dict[str, str]:
    """By git. Raises CalledProcessError where git does not track the package, as below an environment in a checkout."""
    _git(package, "ls-files", "--error-unmatch", "__init__.py")
    root = Path(os.fsdecode(_git(package, "rev-parse", "--show-toplevel")).rstrip("\n"))
    folder = os.fsdecode(_git(package, "rev-parse", "--show-prefix")).rstrip("\n") or "."
    commit = _git(root, "rev-parse", "HEAD").decode().strip()
    show = ("diff", "--binary", "--no-ext-diff", "--no-textconv", "--no-color")
    diff = _git(root, *show, "HEAD", "--", folder)
    for name in _git(root, "ls-files", "--others", "--exclude-standard", "-z", "--", folder).split(b"\0"):
        if name and len(diff) <= MAX_DIFF_BYTES:
            diff += _git(root, *show, "--no-index", "--", os.devnull, os.fsdecode(name), differs=True)
    if len(diff) > MAX_DIFF_BYTES:
        diff = (
            f"more than {MAX_DIFF_BYTES} bytes, not kept; sha256 {hashlib.sha256(diff).hexdigest()}".encode()
        )
    return {"commit": commit, "diff": diff.decode(errors="replace")}


def _git(folder: Path, *words: str, differs: bool = False) -> bytes:
    # Only read; of whoever owns the checkout, as in containers; and not of the repository whose hook this runs in.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-c", "safe.directory=*", "-c", "core.fsmonitor=", "-C", str(folder), *words]
    done = subprocess.run(command, capture_output=True, env=environment, timeout=60)
    if done.returncode != 0 and not (differs and done.returncode == 1):
        raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
    return done.stdout

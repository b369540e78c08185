"""What each start of a run ran with: code, versions, devices, command. One file per start in ``WORKDIR/starts``."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import re
import socket
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax

from adafocus_jax.checkpoint.manager import differing_keys
from adafocus_jax.io import StrPath, write_json
from adafocus_jax.provenance import describe_code

STARTS_FOLDER = "starts"
_PACKAGES = (
    *("jax", "jaxlib", "libtpu", "jax-cuda12-plugin", "jax-cuda13-plugin", "flax", "optax", "chex"),
    *("orbax-checkpoint", "grain", "array-record", "numpy", "av", "simplejpeg", "opencv-python-headless"),
)
_ENVIRONMENT = ("XLA_FLAGS", "LIBTPU_INIT_ARGS", "JAX_DEFAULT_MATMUL_PRECISION", "JAX_ENABLE_X64")
"""Variables that change what is computed."""
_COMPARED = ("code", "versions", "devices", "environment", "data", "plugins")


def describe_start() -> dict[str, Any]:
    """What is running here, of what JSON holds; starts JAX's devices."""
    device = jax.devices()[0]
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": socket.gethostname(),
        "folder": os.getcwd(),
        "command": sys.orig_argv,
        "code": describe_code(),
        "versions": {"python": platform.python_version(), **_versions()},
        "devices": {
            "platform": device.platform,
            "kind": device.device_kind,
            "count": jax.device_count(),
            "processes": jax.process_count(),
        },
        "environment": {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
    }


def write_start(workdir: StrPath, content: Mapping[str, Any]) -> Path:
    """Writes the next ``starts/NUMBER.json``; returns its path. The caller holds the workdir's lock."""
    folder = Path(workdir) / STARTS_FOLDER
    number = max((int(path.stem) for path in _files(folder)), default=-1) + 1
    path = folder / f"{number:04d}.json"
    write_json(path, content)
    return path


def read_starts(workdir: StrPath) -> list[dict[str, Any]]:
    """All starts of the run in ``workdir``, the first one first; one that does not read is left out."""
    found = []
    for path in _files(Path(workdir) / STARTS_FOLDER):
        try:
            found.append(dict(json.loads(path.read_text(encoding="utf-8"))))
        except (OSError, ValueError):
            continue
    return found


def differences(workdir: StrPath, here: Mapping[str, Any]) -> list[str]:
    """What is not the same now as at any of the starts of the run in ``workdir``, a line each.

    Args:
      workdir: of the other run.
      here: of ``describe_start``, with what a run adds to it.
    """
    starts = read_starts(workdir)
    if not starts:
        return [
            f"{workdir} does not tell what it ran with: whether code and versions are the same is not known"
        ]
    lines = (line for start in starts for line in differing_keys(_compared(start), _compared(here)))
    return list(dict.fromkeys(lines))


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _files(folder: Path) -> list[Path]:
    names = folder.iterdir() if folder.is_dir() else ()
    return sorted(path for path in names if re.fullmatch(r"\d{4,}\.json", path.name))


def _compared(start: Mapping[str, Any]) -> dict[str, Any]:
    """What should be the same, the diff as a short digest."""
    sections = {name: dict(start.get(name) or {}) for name in _COMPARED}
    if diff := sections["code"].pop("diff", ""):
        sections["code"]["uncommitted"] = f"sha256 {hashlib.sha256(diff.encode()).hexdigest()[:12]}"
    return sections

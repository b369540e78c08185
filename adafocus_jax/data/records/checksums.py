"""The checksums beside records, ``SHA256SUMS``: nothing that was changed or cut is believed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from adafocus_jax.data.records.schema import CHECKSUMS, INFO_FILE
from adafocus_jax.data.records.storage import file_checksum
from adafocus_jax.errors import UserError

CLASS_NAMES = "labels.labels.txt"
"""The class names, a line each, in the file where TensorFlow Datasets keeps them."""
METADATA = ("features.json", CLASS_NAMES, "metadata.json", INFO_FILE)
"""The files of a finished folder that are no shards, but for ``SHA256SUMS``."""


def read_checksums(file: Path) -> dict[str, str]:
    """Checksum by file name, of a file ``SHA256SUMS``.

    Raises:
      OSError, ValueError: it does not read, or names files elsewhere.
    """
    lines = (line.split("  ", 1) for line in file.read_text(encoding="utf-8").splitlines())
    sums = {name: checksum for checksum, name in lines}
    if strange := [name for name in sums if name != os.path.basename(name) or name.startswith(".")]:
        raise ValueError(f"it names {strange[0]!r}")
    return sums


def is_shard(name: str) -> bool:
    """Whether a file of that name holds records."""
    return "array_record" in name


def damaged_metadata(directory: Path, sums: Mapping[str, str]) -> dict[str, str]:
    """What is wrong with the files that are no shards, by name; ``sums``: of ``read_checksums``."""
    there = (name for name in METADATA if (directory / name).exists())
    names = dict.fromkeys([*there, *(name for name in sums if not is_shard(name))])
    return {name: reason for name in names if (reason := damage(directory / name, sums.get(name)))}


def damage(path: Path, checksum: str | None) -> str | None:
    """What is wrong with a file that ``SHA256SUMS`` gives this checksum; None: nothing."""
    try:
        actual = file_checksum(path)
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"does not read: {error}"
    if checksum is None:
        return f"is not listed in {CHECKSUMS}"
    return None if actual == checksum else "differs from what was written: its checksum does not match"


def check_metadata(directory: Path) -> None:
    """Compares the metadata of a folder of records with ``SHA256SUMS``; folders of versions without it pass.

    Raises:
      UserError: a file is damaged, or the checksums themselves are.
    """
    file = directory / CHECKSUMS
    if not file.exists():
        return
    try:
        found = damaged_metadata(directory, read_checksums(file))
    except (OSError, ValueError) as error:
        raise UserError(f"{file} does not read: {error}; copy it there again, or prepare anew") from error
    for name, reason in found.items():
        raise UserError(
            f"{directory / name} {reason}; copy the file there again, or prepare anew (was it edited on purpose? then "
            f"put what sha256sum says of it into {CHECKSUMS})"
        )

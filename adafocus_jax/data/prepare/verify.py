"""Verifies a folder of records, and counts what it holds."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import simplejpeg
import tensorflow_datasets as tfds

from adafocus_jax.data.records.checksums import damage as damage_of
from adafocus_jax.data.records.checksums import damaged_metadata, read_checksums
from adafocus_jax.data.records.reader import Record, RecordSource, read_info
from adafocus_jax.data.records.schema import CHECKSUMS, RecordError, is_complete, stored_names
from adafocus_jax.data.records.shard_cache import fetch_metadata
from adafocus_jax.data.records.storage import fetch_file
from adafocus_jax.errors import UserError
from adafocus_jax.io import is_remote, progress


@dataclass(frozen=True)
class Damage:
    """One defect of a file."""

    file: str
    reason: str
    index: int | None = None
    """The record; None: the file as a whole."""
    video: str | None = None
    """The video stored in that record, if the receipts still exist."""


@dataclass
class Contents:
    """What the records of a split, or of one shard, hold."""

    num_videos: int = 0
    num_frames: int = 0
    num_bytes: int = 0
    """Size of the JPEG images."""
    labels: Counter[int] = field(default_factory=Counter)
    """Videos of each class; one with several labels counts for each."""
    lengths: Counter[int] = field(default_factory=Counter)
    """Videos of each number of frames."""
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    """Videos of each height and width in pixels."""

    def add(self, record: Record, size: tuple[int, int]) -> None:
        """Counts one record."""
        self.num_videos += 1
        self.num_frames += len(record.frames)
        self.num_bytes += sum(map(len, record.frames))
        self.labels.update(record.labels)
        self.lengths[len(record.frames)] += 1
        self.sizes[size] += 1

    def merge(self, other: Contents) -> None:
        """Adds what another holds."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


@dataclass(frozen=True)
class Inspection:
    """What ``inspect_records`` found."""

    name: str
    classes: tuple[str, ...]
    traits: dict[str, Any]
    """Further metadata: ``metric``, ``flip``, …"""
    splits: dict[str, Contents]
    damage: list[Damage]


@dataclass(frozen=True)
class _Shard:
    path: Path
    length: int
    checksum: str | None
    names: list[str]
    """The videos in it; empty where that is not known."""
    url: str | None
    """Where to fetch it from; None: it is local."""


def inspect_records(
    directory: str | Path,
    *,
    decode: bool = False,
    threads: int | None = None,
) -> Inspection:
    """Reads every byte of a folder of records: checksums of files and records, features, labels.

    Args:
      directory: the folder, local or remote; each thread fetches one remote shard at a time, and does not keep it.
      decode: decode every JPEG image, too.
      threads: files to read at a time; None: one per core.

    Raises:
      UserError: there are no finished records, or remote metadata cannot be fetched.
    """
    if not is_remote(directory):
        return _inspect(Path(directory), None, decode, threads)
    url = str(directory).rstrip("/")
    with tempfile.TemporaryDirectory() as root:
        return _inspect(fetch_metadata(url, Path(root), retry=False)[0], url, decode, threads)


def _inspect(directory: Path, url: str | None, decode: bool, threads: int | None) -> Inspection:
    sums, damage = _check_metadata(directory) if is_complete(directory) else ({}, [])
    if damage:
        return Inspection(directory.name, (), {}, {}, damage)
    info = read_info(directory)
    classes, traits = tuple(info.features["labels"].feature.names), dict(info.metadata)
    max_labels = int(traits.pop("max_labels"))
    contents = {name: Contents() for name in info.splits}
    shards = [
        (name, shard) for name, split in info.splits.items() for shard in _shards(directory, url, split, sums)
    ]

    def check(shard: tuple[str, _Shard]) -> tuple[Contents, list[Damage]]:
        return _check_shard(shard[1], classes, max_labels, decode)

    total = sum(shard.length for _, shard in shards)
    with ThreadPoolExecutor(threads or os.cpu_count()) as pool, progress("inspecting", total) as advance:
        for (split, shard), (found, wrong) in zip(shards, pool.map(check, shards), strict=True):
            contents[split].merge(found)
            damage += wrong
            advance(shard.length)
    return Inspection(info.name, classes, traits, contents, damage)


def _check_metadata(directory: Path) -> tuple[dict[str, str], list[Damage]]:
    """The checksums by file name, and the defects of files other than shards."""
    try:
        sums = read_checksums(directory / CHECKSUMS)
    except (OSError, ValueError) as error:
        return {}, [Damage(CHECKSUMS, f"does not read: {error}")]
    return sums, [Damage(name, reason) for name, reason in damaged_metadata(directory, sums).items()]


def _shards(
    directory: Path, url: str | None, split: tfds.core.SplitInfo, sums: Mapping[str, str]
) -> Iterator[_Shard]:
    for name, length in zip(split.filenames, split.shard_lengths, strict=True):
        names = stored_names(directory / name)
        yield _Shard(directory / name, length, sums.get(name), names, url and f"{url}/{name}")


def _check_shard(
    shard: _Shard, classes: tuple[str, ...], max_labels: int, decode: bool
) -> tuple[Contents, list[Damage]]:
    if shard.url is None:
        return _check_local_shard(shard, classes, max_labels, decode)
    try:
        fetch_file(shard.url, shard.path, None)
        return _check_local_shard(shard, classes, max_labels, decode)
    except UserError as error:
        return Contents(), [Damage(shard.path.name, str(error))]
    finally:
        shard.path.unlink(missing_ok=True)


def _check_local_shard(
    shard: _Shard, classes: tuple[str, ...], max_labels: int, decode: bool
) -> tuple[Contents, list[Damage]]:
    contents = Contents()
    reason = damage_of(shard.path, shard.checksum)
    damage = [Damage(shard.path.name, reason)] if reason else []
    if not shard.path.is_file():
        return contents, damage
    source = RecordSource([(str(shard.path), 0, shard.length)], classes, max_labels)
    for index in range(shard.length):
        try:
            record = source[index]
            contents.add(record, _frame_size(record, decode))
        except RecordError as error:
            video = shard.names[index] if index < len(shard.names) else None
            damage.append(Damage(shard.path.name, str(error), index, video))
    return contents, damage


def _frame_size(record: Record, decode: bool) -> tuple[int, int]:
    for number in range(len(record.frames) if decode else 0):
        record.frame(number)
    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(record.frames[0])
    except ValueError as error:
        raise RecordError(f"frame 0 of {record.where} does not decode: {error}") from error
    return height, width

"""The form of a record and of the files around it, as TensorFlow Datasets reads them, without TensorFlow.

Features of a record: ``frames`` (JPEG bytes), ``times_sec``, ``labels``, ``name``, ``fps``, ``num_frames``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
import tensorflow_datasets as tfds

from adafocus_jax.errors import UserError

DATASET = "videos"

SCRATCH = ".prepare"
"""Sub-folder for what is not finished: a file appears under its final name complete or not at all."""

CHECKSUMS = "SHA256SUMS"
"""File of ``checksum  file name`` lines for all other files of a finished folder, as ``sha256sum -c`` reads it."""

INFO_FILE = "dataset_info.json"


@dataclass(frozen=True)
class About:
    """What the metadata say of a data set as a whole."""

    name: str = DATASET
    """The first part of all file names, and what TensorFlow Datasets calls the data set."""
    description: str = "Videos as JPEG frames, prepared by adafocus_jax."
    citation: str = ""
    """BibTeX."""
    homepage: str = ""
    traits: Mapping[str, Any] = field(default_factory=dict)
    """What to know when training: ``metric``, ``flip``, ``relabel`` of the data set's spec."""


class RecordError(UserError):
    """A record that does not read; the message names shard, position and, where it is known, the video."""


def record_features(classes: Sequence[str], *, times: bool = True) -> tfds.features.FeaturesDict:
    """The schema of a record over the given class names; ``times`` False: that of version 0.1, without times."""
    # Frame i of a record without times stands at i / fps.
    where = {"times_sec": tfds.features.Sequence(np.float32)} if times else {}
    return tfds.features.FeaturesDict(
        {
            **where,
            # Text holds any bytes and needs no TensorFlow, as Image and Video would.
            "frames": tfds.features.Sequence(tfds.features.Text()),
            "labels": tfds.features.Sequence(tfds.features.ClassLabel(names=classes)),
            "name": tfds.features.Text(),
            "fps": np.float32,
            "num_frames": np.int64,
        }
    )


def encode_frame(frame: np.ndarray, quality: int) -> bytes:
    """JPEG of ``frame [H, W, 3]`` uint8 RGB; colour at half resolution, as video has it anyway."""
    return simplejpeg.encode_jpeg(np.ascontiguousarray(frame), quality, colorsubsampling="420")


def encode_record(
    features: tfds.features.FeaturesDict,
    jpegs: Sequence[bytes],
    labels: Sequence[int],
    name: str,
    fps: float,
    times_sec: Sequence[float] | None = None,
) -> bytes:
    """One video, serialised as ``features`` (``record_features``) describe.

    ``fps``: the mean rate. ``times_sec``: where the frames stand; None: frame i at i / ``fps``.
    """
    times_sec = (
        [number / (fps or 1) for number in range(len(jpegs))] if times_sec is None else list(times_sec)
    )
    record = {
        "frames": list(jpegs),
        "times_sec": times_sec,
        "labels": list(labels),
        "name": os.fsencode(name),
    }
    record |= {"fps": fps, "num_frames": len(jpegs)}
    serializer = tfds.core.ExampleSerializer(features.get_serialized_info())
    # Without `deterministic`, the order of the fields differs from process to process.
    return serializer.get_tf_example(features.encode_example(record)).SerializeToString(deterministic=True)


def shard_name(split: str, number: int, count: int, dataset: str = DATASET) -> str:
    """File name of shard ``number`` of ``count``, as TensorFlow Datasets names it.

    >>> shard_name("train", 3, 16)
    'videos-train.array_record-00003-of-00016'
    """
    return f"{dataset}-{split}.array_record-{number:05d}-of-{count:05d}"


def receipt_path(shard: Path) -> Path:
    """Where the receipt of a shard lies: JSON that also holds the ``names`` of the videos in it, in order."""
    return shard.parent / SCRATCH / f"{shard.name}.json"


def stored_names(shard: Path) -> list[str]:
    """The videos in a shard, in order, also where its records do not read; empty without a receipt."""
    try:
        return [str(name) for name in json.loads(receipt_path(shard).read_text(encoding="utf-8"))["names"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def is_complete(directory: Path) -> bool:
    """Whether ``write_metadata`` has completed the folder."""
    return (directory / INFO_FILE).is_file()

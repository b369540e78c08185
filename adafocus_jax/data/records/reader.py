"""Sharded records of JPEG frames: ArrayRecord files with the metadata of TensorFlow Datasets, without TensorFlow.

A folder of records is a standard data set: ``tfds.builder_from_directory(folder).as_data_source("train[:10%]")``
reads it too. Features of a record: ``frames`` (JPEG bytes), ``times_sec``, ``labels``, ``name``, ``fps``,
``num_frames``.
"""

from __future__ import annotations

import bisect
import contextlib
import functools
import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordReader

from adafocus_jax.data.media.frames import Choose, Frame, Reduce, unreduced
from adafocus_jax.data.records.checksums import CLASS_NAMES, check_metadata
from adafocus_jax.data.records.schema import (
    CHECKSUMS,
    SCRATCH,
    RecordError,
    is_complete,
    record_features,
    stored_names,
)
from adafocus_jax.data.records.storage import file_checksum
from adafocus_jax.errors import UserError

_MAX_OPEN_SHARDS = 256  # A process may open 1024 files on many systems; opening a shard again takes 50 µs.


@dataclass(frozen=True)
class Record:
    """One video as it was stored."""

    frames: list[bytes]
    """T ≥ 1 JPEG images; see ``frame``."""
    labels: tuple[int, ...]
    name: str
    fps: float
    where: str
    """Shard, position and video, for error messages."""
    stored_times_sec: np.ndarray | None = field(default=None, compare=False)
    """``[T]`` float32; None in records of version 0.1."""

    @property
    def times_sec(self) -> np.ndarray:
        """``[T]`` float: where the frames stand in the video."""
        if self.stored_times_sec is None:
            return np.arange(len(self.frames)) / self.fps
        return self.stored_times_sec

    def frame(self, number: int) -> np.ndarray:
        """Decodes frame ``number``: ``[H, W, 3]`` uint8 RGB.

        Raises:
          RecordError: the JPEG does not decode.
        """
        (frame,) = self.read(lambda _: (number,))
        return frame.pixels

    def read(self, choose: Choose, reduce: Reduce = unreduced) -> Iterator[Frame]:
        """Decodes the chosen frames, one by one.

        A reduced frame has ``⌈side / factor⌉`` pixels a side: the JPEG's 8 × 8 cosines cut off at 8/factor, which
        keeps what the smaller image can show and takes less time.

        Raises:
          RecordError: a JPEG does not decode without a warning, or is not of the size of the first one.
        """
        size, space = None, None
        for number in choose(len(self.frames)):
            with self._names_frame(number):
                height, width, *_ = simplejpeg.decode_jpeg_header(self.frames[number])
                if size is None:
                    size, factor = (height, width), reduce(height, width)
                    least = {"min_height": -(-height // factor), "min_width": -(-width // factor)}
                    # Fresh memory for each frame would cost a third of the decoding time.
                    space = np.empty((height, width, 3), np.uint8)
                elif size != (height, width):
                    raise ValueError(
                        f"it has {height} × {width} pixels, frames before it {size[0]} × {size[1]}"
                    )
                frame = simplejpeg.decode_jpeg(self.frames[number], min_factor=factor, buffer=space, **least)
            yield Frame(number, float(self.times_sec[number]), frame)

    @contextlib.contextmanager
    def _names_frame(self, number: int) -> Iterator[None]:
        try:
            yield
        except ValueError as error:
            raise RecordError(f"frame {number} of {self.where} does not decode: {error}") from error


class RecordSource:
    """Random access to the records of a split: ``len(source)``, ``source[i]``. Pickles; opens shards when needed.

    ``classes`` are the class names, ``max_labels`` the largest number of labels of one video in the data set,
    ``traits`` those of its ``About``.
    """

    def __init__(
        self,
        shards: Sequence[tuple[str, int, int]],
        classes: tuple[str, ...],
        max_labels: int,
        traits: Mapping[str, Any] | None = None,
    ) -> None:
        """``shards``: (file, first record, end) of each stretch of records, in order."""
        self.classes, self.max_labels, self.traits = classes, max_labels, dict(traits or {})
        self._shards = list(shards)
        self._ends = list(itertools.accumulate(end - start for _, start, end in shards))
        self._features = record_features(classes)
        self._open: Callable[[str], ArrayRecordReader] = functools.lru_cache(_MAX_OPEN_SHARDS)(open_shard)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the records' ``SHA256SUMS``, wherever they lie; empty where earlier versions wrote none."""
        listing = self._folder / CHECKSUMS
        return file_checksum(listing) if listing.is_file() else ""

    @property
    def _folder(self) -> Path:
        return Path(self._shards[0][0]).parent

    def __reduce__(self) -> tuple[Any, ...]:
        return RecordSource, (self._shards, self.classes, self.max_labels, self.traits)

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> Record:
        """Reads one record.

        Every stretch of a shard carries a checksum: bytes that have changed are an error, never other pixels.

        Raises:
          RecordError: the shard is missing or cut short, the record is damaged or not of this schema, or a label
            is outside the classes.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        number = bisect.bisect_right(self._ends, index)
        file, _, end = self._shards[number]
        place = end - (self._ends[number] - index)
        where = f"{file}, record {place}"
        try:
            fields = self._parse(self._open(file).read([place])[0])
            frames, name = list(fields["frames"]), os.fsdecode(fields["name"])
            labels = tuple(int(label) for label in fields["labels"])
            fps, times_sec = float(fields["fps"]), np.asarray(fields.get("times_sec", ()), np.float32)
        except (MemoryError, UserError):
            raise
        except Exception as error:  # Whatever damaged bytes make the parsers say.
            names = stored_names(Path(file))[place : place + 1]
            where += f" (video {names[0]})" if names else ""
            raise RecordError(f"{where} does not read: {str(error).split(';')[0]}") from error
        where = f"{where} (video {name})"
        if not frames or len(frames) != fields["num_frames"] or not fps > 0:
            raise RecordError(f"{where} states {fields['num_frames']} frames and has {len(frames)}")
        if len(times_sec) not in (0, len(frames)):
            raise RecordError(f"{where} has {len(frames)} frames and {len(times_sec)} times")
        if not labels or not all(0 <= label < len(self.classes) for label in labels):
            raise RecordError(f"{where} has labels {labels}, valid are 0…{len(self.classes) - 1}")
        if len(labels) > self.max_labels:
            raise RecordError(f"{where} has {len(labels)} labels, not {self.max_labels} or less")
        return Record(frames, labels, name, fps, where, times_sec if len(times_sec) else None)

    def _parse(self, record: bytes) -> dict[str, Any]:
        features = self._features  # Another thread may meet an old record first, and change it.
        try:
            return features.deserialize_example_np(record)
        except ValueError:
            if "times_sec" not in features:
                raise
        old = record_features(self.classes, times=False)
        fields = old.deserialize_example_np(record)
        self._features = old  # As one record of a data set is, so are the others.
        return fields


def open_shard(file: str) -> ArrayRecordReader:
    """A reader of the records of a local file."""
    # Without read-ahead: records are read in random order, and buffers of 16 MB per shard would add up.
    return ArrayRecordReader(
        file, "readahead_buffer_size:0,max_parallelism:0", file_reader_buffer_size=1 << 15
    )


def read_info(directory: Path) -> tfds.core.DatasetInfo:
    """The metadata of a finished folder of records.

    Raises:
      UserError: there are none, they do not read, or are not what was written (``SHA256SUMS``).
    """
    if not is_complete(directory):
        state = "are not finished: run the same" if (directory / SCRATCH).is_dir() else "are not there: run"
        raise UserError(f"the records in {directory} {state} adafocus prepare SRC {directory}")
    check_metadata(directory)
    try:
        info = tfds.builder_from_directory(directory).info
        _check_names(info, directory / CLASS_NAMES)
    except UserError:
        raise
    except Exception as error:  # Whatever a damaged file makes the parsers say.
        raise UserError(f"the metadata in {directory} does not read, prepare anew: {error}") from error
    return info


def _check_names(info: tfds.core.DatasetInfo, file: Path) -> None:
    """Raises UserError unless the classes are named as in ``file``, if it is there.

    TensorFlow Datasets takes a file that storage does not give for one that is not there, of classes "0", "1", …
    """
    if file.exists() and "labels" in (info.features or {}):
        names = [name.strip() for name in file.read_text(encoding="utf-8").split("\n") if name.strip()]
        if names != getattr(getattr(info.features["labels"], "feature", None), "names", names):
            raise UserError(
                f"{file} could not be read a moment ago: check the disk or mount, and start again"
            )


def open_records(directory: str | Path, split: str) -> RecordSource:
    """Opens a split, such as ``"train"``, or a slice of one, such as ``"train[:10%]"``. Reads the metadata alone.

    Raises:
      UserError: there are no finished records, no such split, a shard is missing, or the features are others.
    """
    shards, classes, max_labels, traits = split_shards(read_info(Path(directory)), str(directory), split)
    if lost := [file for file, _, _ in shards if not os.path.isfile(file)]:
        raise UserError(
            f"{len(lost)} of {len(shards)} shards are missing, the first is {lost[0]}: prepare again"
        )
    return RecordSource(shards, classes, max_labels, traits)


def split_shards(
    info: tfds.core.DatasetInfo, place: str, split: str
) -> tuple[list[tuple[str, int, int]], tuple[str, ...], int, dict[str, Any]]:
    """What a ``RecordSource`` of a split is made of. ``place``: where the records are, for messages.

    Raises:
      UserError: no such split, or the features are others.
    """
    if missing := {"frames", "labels", "name", "fps", "num_frames"} - set(info.features or ()):
        raise UserError(f"{place} holds other records, without {sorted(missing)}: use adafocus prepare")
    try:
        instructions = info.splits[split].file_instructions
    except (KeyError, ValueError) as error:
        raise UserError(f"no split {split!r} in {place}: there are {', '.join(info.splits)}") from error
    if not instructions:
        raise UserError(f"the split {split!r} in {place} is empty: choose another")
    shards = [(file.filename, file.skip, file.skip + file.take) for file in instructions]
    traits = dict(info.metadata)
    max_labels = int(traits.pop("max_labels"))
    return shards, tuple(info.features["labels"].feature.names), max_labels, traits

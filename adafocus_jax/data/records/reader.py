"""Sharded records of JPEG frames: ArrayRecord files with the metadata of TensorFlow Datasets, without TensorFlow.

A folder of records is a standard data set: ``tfds.builder_from_directory(folder).as_data_source("train[:10%]")``
reads it too. Features of a record: ``frames`` (JPEG bytes), ``labels``, ``name``, ``fps``, ``num_frames``.
"""

from __future__ import annotations

import bisect
import contextlib
import functools
import itertools
import os
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
import simplejpeg
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

from adafocus_jax.data.records.storage import file_checksum
from adafocus_jax.errors import UserError

DATASET = "videos"
SCRATCH = ".prepare"
"""Sub-folder for what is not finished: a file appears under its final name complete or not at all."""

CHECKSUMS = "SHA256SUMS"
"""File of ``checksum  file name`` lines for all other files of a finished folder, as ``sha256sum -c`` reads it."""

_INFO = "dataset_info.json"
_MAX_OPEN_SHARDS = 256  # A process may open 1024 files on many systems; opening a shard again takes 50 µs.

Choose = Callable[[int], Iterable[int]]
"""From a video's number of frames to the numbers of those wanted, each once, increasing."""
Reduce = Callable[[int, int], int]
"""From a video's height and width in pixels to the factor (1, 2, 4 or 8) by which its frames may come smaller."""


class Frame(NamedTuple):
    """A decoded frame of a video."""

    number: int
    time_sec: float
    """Where it stands in the video."""
    pixels: np.ndarray
    """``[H, W, 3]`` uint8 RGB; may be overwritten by the next frame."""


def unreduced(height: int, width: int) -> int:
    """The factor 1 for every size: a ``Reduce`` that asks for whole frames."""
    return 1


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


def record_features(classes: Sequence[str]) -> tfds.features.FeaturesDict:
    """The schema of a record over the given class names."""
    return tfds.features.FeaturesDict(
        {
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
    features: tfds.features.FeaturesDict, jpegs: Sequence[bytes], labels: Sequence[int], name: str, fps: float
) -> bytes:
    """One video, serialised as ``features`` (:func:`record_features`) describe."""
    record = {"frames": list(jpegs), "labels": list(labels), "name": os.fsencode(name)}
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


class ShardWriter:
    """Writes one shard: ``with ShardWriter(path) as shard: shard.write(record)``.

    The file appears under ``path`` when the block ends without an error, and not before.

    Raises:
        OSError: the disk is full, or the folder does not take the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._partial = partial_path(path.parent / SCRATCH, path.name)
        # A group of one record per chunk makes random access cheap; JPEG does not compress further.
        self._writer = ArrayRecordWriter(str(self._partial), "group_size:1,uncompressed")

    def write(self, record: bytes) -> None:
        """Appends a serialised record."""
        with self._as_os_error():
            self._writer.write(record)

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is not None:
                with contextlib.suppress(RuntimeError):
                    self._writer.close()
                return
            with self._as_os_error():
                self._writer.close()
            commit(self._partial, self._path)
        finally:
            self._partial.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _as_os_error(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise OSError(f"cannot write {self._path}: {str(error).split(';')[0]}") from error


def partial_path(folder: Path, name: str) -> Path:
    """A file in ``folder`` for what will be ``name``; no two writers, on whichever machines, get the same one."""
    return folder / f"{name}.{uuid.uuid4().hex}.partial"


def commit(partial: Path, path: Path) -> None:
    """Makes a finished file durable and gives it its final name in one step."""
    with open(partial, "rb") as file:
        os.fsync(file.fileno())
    os.replace(partial, path)
    folder = os.open(path.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def write_metadata(
    directory: Path,
    classes: Sequence[str],
    shard_lengths: Mapping[str, Sequence[int]],
    num_bytes: Mapping[str, int],
    max_labels: int,
    *,
    about: About | None = None,
    checksums: Mapping[str, str] | None = None,
) -> None:
    """Completes a folder of shards: afterwards :func:`open_records` and TensorFlow Datasets open it.

    ``checksums`` (of the shards, by file name) go into the file ``SHA256SUMS`` with those of the metadata.
    ``dataset_info.json`` comes last, so that a folder without it is not complete.
    """
    about = about or About()
    info = tfds.core.DatasetInfo(
        builder=tfds.core.DatasetIdentity(
            name=about.name, version=tfds.core.Version("1.0.0"), data_dir=str(directory), module_name=""
        ),
        description=about.description,
        citation=about.citation,
        homepage=about.homepage,
        features=record_features(classes),
        metadata=tfds.core.MetadataDict(max_labels=max_labels, **about.traits),
    )
    info.set_file_format("array_record")
    splits = [
        tfds.core.SplitInfo(name, list(lengths), num_bytes[name]) for name, lengths in shard_lengths.items()
    ]
    info.set_splits(tfds.core.SplitDict(splits))
    with tempfile.TemporaryDirectory(".partial", dir=directory / SCRATCH) as scratch:
        info.write_to_directory(scratch)
        written = {file.name: file_checksum(file) for file in Path(scratch).iterdir()}
        lines = [f"{value}  {name}\n" for name, value in sorted({**(checksums or {}), **written}.items())]
        (Path(scratch) / CHECKSUMS).write_text("".join(lines), encoding="utf-8")
        for file in sorted(Path(scratch).iterdir(), key=lambda file: file.name == _INFO):
            commit(file, directory / file.name)


def is_complete(directory: Path) -> bool:
    """Whether :func:`write_metadata` has completed the folder."""
    return (directory / _INFO).is_file()


@dataclass(frozen=True)
class Record:
    """One video as it was stored."""

    frames: list[bytes]
    """T ≥ 1 JPEG images; see :meth:`frame`."""
    labels: tuple[int, ...]
    name: str
    fps: float
    where: str
    """Shard, position and video, for error messages."""

    @property
    def times_sec(self) -> np.ndarray:
        """``[T]`` float: where the frames stand in the video."""
        return np.arange(len(self.frames)) / self.fps

    def frame(self, number: int) -> np.ndarray:
        """Decodes frame ``number``: ``[H, W, 3]`` uint8 RGB.

        Raises:
            RecordError: the JPEG does not decode.
        """
        (frame,) = self.read(lambda _: (number,))
        return frame.pixels

    def read(self, choose: Choose, reduce: Reduce = unreduced) -> Iterator[Frame]:
        """Decodes the chosen frames, one by one; frame i stands at i / fps seconds.

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
            yield Frame(number, number / self.fps, frame)

    @contextlib.contextmanager
    def _names_frame(self, number: int) -> Iterator[None]:
        try:
            yield
        except ValueError as error:
            raise RecordError(f"frame {number} of {self.where} does not decode: {error}") from error


class RecordSource:
    """Random access to the records of a split: ``len(source)``, ``source[i]``. Pickles; opens shards when needed.

    ``classes`` are the class names, ``max_labels`` the largest number of labels of one video in the data set,
    ``traits`` those of its :class:`About`.
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
            fields = self._features.deserialize_example_np(self._open(file).read([place])[0])
            frames, name = list(fields["frames"]), os.fsdecode(fields["name"])
            labels = tuple(int(label) for label in fields["labels"])
            fps = float(fields["fps"])
        except (MemoryError, UserError):
            raise
        except Exception as error:  # Whatever damaged bytes make the parsers say.
            raise RecordError(f"{where} does not read: {str(error).split(';')[0]}") from error
        where = f"{where} (video {name})"
        if not frames or len(frames) != fields["num_frames"] or not fps > 0:
            raise RecordError(f"{where} states {fields['num_frames']} frames and has {len(frames)}")
        if not labels or not all(0 <= label < len(self.classes) for label in labels):
            raise RecordError(f"{where} has labels {labels}, valid are 0…{len(self.classes) - 1}")
        if len(labels) > self.max_labels:
            raise RecordError(f"{where} has {len(labels)} labels, not {self.max_labels} or less")
        return Record(frames, labels, name, fps, where)


def open_shard(file: str) -> ArrayRecordReader:
    """A reader of the records of a local file."""
    # Without read-ahead: records are read in random order, and buffers of 16 MB per shard would add up.
    return ArrayRecordReader(
        file, "readahead_buffer_size:0,max_parallelism:0", file_reader_buffer_size=1 << 15
    )


def read_info(directory: Path) -> tfds.core.DatasetInfo:
    """The metadata of a finished folder of records.

    Raises:
        UserError: there are none, or they do not read.
    """
    if not is_complete(directory):
        state = "are not finished: run the same" if (directory / SCRATCH).is_dir() else "are not there: run"
        raise UserError(f"the records in {directory} {state} adafocus prepare SRC {directory}")
    try:
        return tfds.builder_from_directory(directory).info
    except Exception as error:  # Whatever a damaged file makes the parsers say.
        raise UserError(f"the metadata in {directory} does not read, prepare anew: {error}") from error


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
    """What a :class:`RecordSource` of a split is made of. ``place``: where the records are, for messages.

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

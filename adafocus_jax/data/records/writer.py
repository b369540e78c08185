"""Writes shards of records and the metadata that complete them."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType

import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter

from adafocus_jax.data.records.schema import CHECKSUMS, INFO_FILE, SCRATCH, About, record_features
from adafocus_jax.data.records.storage import file_checksum
from adafocus_jax.io import commit, writing


class ShardWriter:
    """Writes one shard: ``with ShardWriter(path) as shard: shard.write(record)``.

    The file appears under ``path`` when the block ends without an error, and not before.

    Raises:
      OSError: the disk is full, or the folder does not take the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, record: bytes) -> None:
        """Appends a serialised record."""
        with self._as_os_error():
            self._writer.write(record)

    def __enter__(self) -> ShardWriter:
        with contextlib.ExitStack() as stack:
            partial = stack.enter_context(writing(self._path, folder=self._path.parent / SCRATCH))
            # A group of one record per chunk makes random access cheap; JPEG does not compress further.
            self._writer = ArrayRecordWriter(str(partial), "group_size:1,uncompressed")
            stack.push(self._close)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def _close(self, kind: object, error: BaseException | None, trace: object) -> None:
        with self._as_os_error() if error is None else contextlib.suppress(RuntimeError):
            self._writer.close()

    @contextlib.contextmanager
    def _as_os_error(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise OSError(f"cannot write {self._path}: {str(error).split(';')[0]}") from error


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
    """Completes a folder of shards: afterwards ``open_records`` and TensorFlow Datasets open it.

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
        for file in sorted(Path(scratch).iterdir(), key=lambda file: file.name == INFO_FILE):
            commit(file, directory / file.name)

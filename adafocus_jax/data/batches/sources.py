"""Where videos are read from: prepared records, or a folder of videos that are decoded when they are read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from adafocus_jax.data.datasets.annotations import Entry, read_splits
from adafocus_jax.data.datasets.entries import ReadOptions, iter_chosen
from adafocus_jax.data.media.frames import Choose, Frame, Reduce, unreduced
from adafocus_jax.data.media.resize import resize
from adafocus_jax.data.media.video import DecodeError
from adafocus_jax.data.records.reader import open_records
from adafocus_jax.data.records.remote import open_remote
from adafocus_jax.data.records.schema import SCRATCH, RecordError, is_complete
from adafocus_jax.data.records.storage import CacheOptions
from adafocus_jax.errors import UserError
from adafocus_jax.io import is_remote

SHORT_SIDE = 256
"""Pixels of a video's short side as it is read: that of records that ``adafocus prepare`` makes by default."""


class VideoData(Protocol):
    """One video: a ``Record`` or a ``Video``."""

    @property
    def labels(self) -> tuple[int, ...]:
        """Class numbers, at least one."""

    @property
    def name(self) -> str:
        """What the video is called in lists and reports."""

    def read(self, choose: Choose, reduce: Reduce = unreduced) -> Iterator[Frame]:
        """Decodes the chosen frames, one by one."""


class Source(Protocol):
    """Random access to the videos of a split: a ``RecordSource`` or a ``VideoSource``. Pickles."""

    classes: tuple[str, ...]
    max_labels: int
    traits: dict[str, Any]
    """``metric``, ``flip`` and ``relabel`` of the data set's spec, where it is known."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> VideoData: ...


@dataclass(frozen=True)
class Video:
    """A video file, a folder of frames or a volume, or a segment of one, its short side scaled to ``SHORT_SIDE``.

    Video formats carry no checksums: a decoder conceals most damage, and nobody notices. Records do notice.
    """

    entry: Entry
    options: ReadOptions
    """For folders of frames and volumes."""

    @property
    def labels(self) -> tuple[int, ...]:
        """Class numbers, at least one."""
        return self.entry.labels

    @property
    def name(self) -> str:
        """What the video is called in lists and reports."""
        return self.entry.name

    def read(self, choose: Choose, reduce: Reduce = unreduced) -> Iterator[Frame]:
        """Decodes it once, up to its end, or a segment twice, and yields the chosen frames.

        Raises:
          RecordError: it does not decode.
          UserError: a volume, and nibabel is not installed.
        """
        factor: int | None = None

        def wanted(num_frames: int) -> Iterable[int]:
            nonlocal factor
            factor = None  # Frames come anew, perhaps of another size.
            return choose(num_frames)

        try:
            for frame in iter_chosen(self.entry, wanted, short_side=SHORT_SIDE, options=self.options):
                height, width, _ = frame.pixels.shape
                factor = factor or reduce(height, width)
                small = resize(frame.pixels, -(-height // factor), -(-width // factor))
                yield frame._replace(pixels=small)
        except (DecodeError, OSError) as error:
            raise RecordError(f"{self.entry.path} does not decode: {error}") from error


class VideoSource:
    """The videos of a split as they are: ``len(source)``, ``source[i]``. ``classes`` are the class names."""

    def __init__(
        self, entries: Sequence[Entry], classes: tuple[str, ...], options: ReadOptions | None = None
    ) -> None:
        """``entries``: of any kind, in order. ``options``: for folders of frames and volumes; None: the defaults."""
        self.classes, self.traits = classes, dict[str, Any]()
        self.max_labels = max(len(entry.labels) for entry in entries)
        self._entries, self._options = tuple(entries), options or ReadOptions()

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> Video:
        """The video, not yet decoded."""
        if not 0 <= index < len(self):
            raise IndexError(f"video {index} of {len(self)}")
        return Video(self._entries[index], self._options)


def open_data(
    path: str | Path, split: str, *, val_fraction: float = 0.0, cache: CacheOptions | None = None
) -> Source:
    """Opens a split of prepared records, or of a folder of videos as it is.

    Args:
      path: the folder that ``adafocus prepare`` made; or one with a sub-folder per class of videos, folders of
        frames or volumes, which may lie in ``train`` and ``val`` (or ``validation``, or ``test``). Records may be
        remote (``gs://…``, ``s3://…``, or what else fsspec reads).
      split: ``"train"`` or ``"val"``; of records also a slice, such as ``"train[:10%]"``.
      val_fraction: share of each class that is ``val`` where a folder of videos has no such split, drawn as
        ``adafocus prepare --val-fraction`` draws it; 0: none.
      cache: for shards of remote records; None: the defaults.

    Raises:
      UserError: there are neither records nor videos, or no such split; remote records do not come.
    """
    if not path:
        raise UserError("no data: give --data DIR, the records that adafocus prepare made")
    if is_remote(path):
        return open_remote(str(path), split, cache or CacheOptions())
    path = Path(path)
    is_records = is_complete(path) or (path / SCRATCH).is_dir()
    if is_records or not path.is_dir() or not any(child.is_dir() for child in path.iterdir()):
        return open_records(path, split)
    splits, classes = read_splits(path, val_fraction=val_fraction or None)
    if split not in splits:
        raise UserError(
            f"no split {split!r} in the videos of {path}: there are {', '.join(splits)}; give it a sub-folder, or "
            "data.val_fraction, or prepare records, which can also be sliced"
        )
    return VideoSource(splits[split], classes)

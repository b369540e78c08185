"""Where videos are read from: prepared records, or a folder of videos that are decoded when they are read."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from adafocus_jax.data.datasets.annotations import Entry, read_splits
from adafocus_jax.data.datasets.entries import ReadOptions, iter_chosen
from adafocus_jax.data.media.frames import Choose, DecodeError, Deliver, Frame, Reduce, at_once, unreduced
from adafocus_jax.data.media.picture import same_size
from adafocus_jax.data.media.resize import resize
from adafocus_jax.data.records.reader import open_records
from adafocus_jax.data.records.remote import open_remote
from adafocus_jax.data.records.schema import SCRATCH, RecordError, is_complete
from adafocus_jax.data.records.storage import CacheOptions
from adafocus_jax.errors import UserError
from adafocus_jax.io import is_remote

SHORT_SIDE = 256
"""Pixels of a video's short side as it is read: that of records that ``adafocus prepare`` makes by default."""
_MAX_HELD_BYTES = 64 * 2**20


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
        reduced: _Reduced

        def wanted(num_frames: int) -> Iterable[int]:
            nonlocal reduced
            reduced = _Reduced(reduce)  # Frames come anew, perhaps of another size.
            return choose(num_frames)

        for frame in self._frames(wanted, at_once):
            yield frame._replace(pixels=reduced(frame.pixels))

    def hold(self, choose: Choose) -> HeldVideo:
        """Decodes it once; its chosen frames can then be read in any order, and any number of times.

        Frames are held as they were decoded, 1.5 bytes a pixel for most videos, and become RGB when they are read. What
        goes beyond 64 MiB becomes RGB of ``SHORT_SIDE`` at once. Of a folder nothing is decoded but the first frame.

        Raises:
          RecordError, UserError: as ``read``.
        """
        count, frames, held = 0, dict[int, Frame](), list[int]()

        def wanted(num_frames: int) -> Iterable[int]:
            nonlocal count
            count = num_frames  # The last one that is given counts.
            frames.clear()
            held.clear()
            return choose(num_frames)

        def deliver(pixels: Callable[[], np.ndarray], held_bytes: int) -> Callable[[], np.ndarray]:
            held.append(held_bytes)
            if len(held) == 1 or sum(held) > _MAX_HELD_BYTES:  # The first one sets the size of all.
                made = pixels()
                return lambda: made
            return pixels

        for frame in self._frames(wanted, deliver):
            frames[frame.number] = frame
        return HeldVideo(self.entry, count, frames)

    def _frames(self, choose: Choose, deliver: Deliver) -> Iterator[Frame]:
        with _names_video(self.entry):
            yield from iter_chosen(
                self.entry, choose, short_side=SHORT_SIDE, options=self.options, deliver=deliver
            )


@dataclass(frozen=True, eq=False)
class ArrayVideo:
    """A video in memory; read like a file, with its short side scaled to ``SHORT_SIDE``.

    Raises:
      UserError: the array has another shape or dtype, or the rate is not positive.
    """

    frames: np.ndarray
    """``[T, H, W, 3]`` uint8 RGB, T ≥ 1."""
    fps: float = 1.0
    """Frames per second."""
    name: str = ""
    labels: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        shape, dtype = np.shape(self.frames), np.asarray(self.frames).dtype
        if len(shape) != 4 or shape[3] != 3 or 0 in shape or dtype != np.uint8:
            raise UserError(
                f"an array of shape {list(shape)} and dtype {dtype} is no video: give uint8 [T, H, W, 3], RGB"
            )
        if not self.fps > 0:
            raise UserError(f"fps {self.fps} is not valid: give more than 0 frames per second")

    @property
    def times_sec(self) -> np.ndarray:
        """``[T]`` float: where the frames stand in the video."""
        return np.arange(len(self.frames)) / self.fps

    def read(self, choose: Choose, reduce: Reduce = unreduced) -> Iterator[Frame]:
        """Scales the chosen frames, one by one."""
        fit, reduced = same_size(SHORT_SIDE), _Reduced(reduce)
        for number in choose(len(self.frames)):
            pixels = reduced(fit(np.ascontiguousarray(self.frames[number])))
            yield Frame(number, number / self.fps, pixels)


@dataclass(frozen=True, eq=False)
class HeldVideo:
    """Chosen frames of a video, to be read in any order; see ``Video.hold``."""

    entry: Entry
    num_frames: int
    frames: dict[int, Frame]
    """By number; ``pixels`` are functions that make them."""

    @property
    def labels(self) -> tuple[int, ...]:
        """Class numbers, at least one."""
        return self.entry.labels

    @property
    def name(self) -> str:
        """What the video is called in lists and reports."""
        return self.entry.name

    def read(self, choose: Choose, reduce: Reduce = unreduced) -> Iterator[Frame]:
        """Converts the chosen frames, one by one; only held ones can be chosen.

        Raises:
          RecordError: one does not decode.
        """
        reduced = _Reduced(reduce)
        for number in choose(self.num_frames):
            frame = self.frames[number]
            with _names_video(self.entry):
                pixels = frame.pixels()  # type: ignore[operator]
            yield frame._replace(pixels=reduced(pixels))


class _Reduced:
    """Makes frames smaller by the factor that ``reduce`` gives for the first of them."""

    def __init__(self, reduce: Reduce) -> None:
        self._reduce, self._factor = reduce, 0

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        height, width, _ = pixels.shape
        self._factor = self._factor or self._reduce(height, width)
        return resize(pixels, -(-height // self._factor), -(-width // self._factor))


@contextlib.contextmanager
def _names_video(entry: Entry) -> Iterator[None]:
    try:
        yield
    except (DecodeError, OSError) as error:
        raise RecordError(f"{entry.path} does not decode: {error}") from error


class VideoSource:
    """The videos of a split as they are: ``len(source)``, ``source[i]``. ``classes`` are the class names."""

    def __init__(
        self, entries: Sequence[Entry], classes: tuple[str, ...], options: ReadOptions | None = None
    ) -> None:
        """``entries``: of any kind, in order. ``options``: for folders of frames and volumes; None: the defaults."""
        self.classes, self.traits = classes, dict[str, Any]()
        self.max_labels = max(len(entry.labels) for entry in entries)
        self._entries, self._options = tuple(entries), options or ReadOptions()

    @property
    def fingerprint(self) -> str:
        """SHA-256 of what the videos are called and of their labels, in order; not of their content."""
        listed = [(entry.name, entry.labels) for entry in self._entries]
        return hashlib.sha256(repr((self.classes, listed)).encode(errors="surrogateescape")).hexdigest()

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
        ``prepare(val_fraction=…)`` draws it; 0: none.
      cache: for shards of remote records; None: the defaults.

    Raises:
      UserError: there are neither records nor videos, or no such split; remote records do not come.
    """
    if not path:
        raise UserError("no data: give data=DIR, the records that adafocus prepare made")
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

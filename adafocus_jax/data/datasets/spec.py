"""What a data set is: its facts, the rows that its annotation files hold, and the table that comes of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from adafocus_jax.data.datasets.entry import Entry

DEFAULT_FPS = 10.0


@dataclass(frozen=True)
class Source:
    """What a reader may look at."""

    videos: Path
    """The folder of videos."""
    annotations: Path | None
    """The folder of annotation files, or the one file."""
    files: tuple[Path, ...]
    """The files that these are, with the class file that lies beside the one."""


@dataclass(frozen=True)
class Row:
    """What an annotation file says of one video."""

    where: str
    """File and line, for messages."""
    split: str
    """``train``, ``val`` or ``test``."""
    video: str
    """An id, or a path below the video folder, perhaps without suffix."""
    labels: tuple[str | int, ...]
    """Class names, or class numbers from 0; none: the video counts as missing."""
    segment: tuple[float, float] | None = None
    """Start and end in seconds; None: all of the video."""
    clips: tuple[str, ...] = ()
    """What files are called that are cut to the segment already: looked for first, and used whole."""


@dataclass(frozen=True)
class Annotations:
    """What a reader found: rows whose files are still to be looked up, or else entries."""

    classes: tuple[str, ...]
    rows: list[Row] = field(default_factory=list)
    splits: dict[str, list[Entry]] = field(default_factory=dict)


@dataclass(frozen=True)
class DatasetSpec:
    """The facts of a data set, and how its annotations are read.

    ``register_dataset`` makes one known to ``adafocus prepare``; records keep ``metric``, ``flip`` and ``relabel``, and
    settings that a config leaves open take them from there.
    """

    name: str
    title: str
    num_classes: int | None
    """None: whatever the annotations say."""
    metric: Literal["top1", "mAP"]
    max_labels: int
    """The most classes of one video in the authors' lists."""
    flip: bool
    """Whether a mirrored video is of the same classes."""
    relabel: bool
    """Whether a mirrored video is of the classes that ``mirrored_labels`` gives."""
    citation: str
    """BibTeX; empty for data of one's own."""
    homepage: str
    files: str
    """What the official annotation files are called, for messages."""
    read: Callable[..., Annotations | None]
    """``read(source, **options)``; None where the official files are not there, so that lists may be."""
    fps: float | None = DEFAULT_FPS
    """The highest frame rate to store, in frames per second; None keeps all frames."""

    @property
    def traits(self) -> dict[str, str | bool]:
        """What records keep of these facts."""
        return {"metric": self.metric, "flip": self.flip, "relabel": self.relabel}


@dataclass(frozen=True)
class DatasetTable:
    """The videos of a data set that are there, by split, and those that are not."""

    splits: dict[str, list[Entry]]
    """``train``, ``val`` and ``test``: those of them that have entries."""
    classes: tuple[str, ...]
    spec: DatasetSpec
    missing: dict[str, list[str]]
    """By split, the videos that the annotations name and that are not in the video folder or have no label."""

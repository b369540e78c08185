"""What a data set is: its facts, the rows that its annotation files hold, and the table that comes of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from adafocus_jax.data.annotations import Entry


@dataclass(frozen=True)
class Row:
    """One line of an annotation file: a video, where in it, and its classes, as the file has them."""

    where: str
    """File and line, for messages."""
    split: str
    """``train``, ``val`` or ``test``."""
    video: str
    """An id, or a path below the video folder, perhaps without suffix."""
    labels: tuple[str | int, ...]
    """Class names, or class numbers from 0."""
    segment: tuple[float, float] | None = None
    """Start and end in seconds; None: all of the video."""
    clip: str | None = None
    """What a file that is cut to the segment already is called: it is looked for first, and used whole."""


@dataclass(frozen=True)
class Annotations:
    """All that the annotation files of a data set say."""

    classes: tuple[str, ...]
    rows: list[Row]


@dataclass(frozen=True)
class DatasetSpec:
    """The facts of a data set, and how its annotations are read."""

    name: str
    title: str
    num_classes: int | None
    """None: whatever the annotations say."""
    metric: Literal["top1", "mAP"]
    max_labels: int
    """The most classes that one video has."""
    flip: bool
    """Whether a mirrored video is of the same classes."""
    relabel: bool
    """Whether a mirrored video is of the classes that :func:`~adafocus_jax.data.annotations.mirrored_labels` gives."""
    citation: str
    homepage: str
    read: Callable[..., Annotations]
    """``read(videos, annotations, **options)``."""


@dataclass(frozen=True)
class DatasetTable:
    """The videos of a data set that are there, by split, and those that are not."""

    splits: dict[str, list[Entry]]
    """Entries by split: ``train``, ``val`` and ``test``, those that the annotations have and no others."""
    classes: tuple[str, ...]
    spec: DatasetSpec
    missing: dict[str, list[str]]
    """By split, the videos that the annotations name and the video folder does not hold, one per row."""

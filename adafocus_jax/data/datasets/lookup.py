"""From the rows of annotation files to entries: which file is meant, and which class."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property
from itertools import takewhile
from pathlib import Path

from adafocus_jax.data.datasets.entry import Entry
from adafocus_jax.data.datasets.list_files import label_choices, name_below
from adafocus_jax.data.datasets.spec import Row
from adafocus_jax.data.media.kinds import Media, Search, find_media, media_kind, media_stem
from adafocus_jax.data.media.names import StoredNames, normal
from adafocus_jax.errors import UserError

_SPLIT_FOLDERS = {"train": {"train", "training"}, "val": {"val", "validation", "validate"}, "test": {"test"}}


def resolve(
    rows: Sequence[Row], classes: tuple[str, ...], videos: Path
) -> tuple[dict[str, list[Entry]], dict[str, list[str]]]:
    """The entries by split, and the names of the videos that are missing.

    Raises:
      UserError: with file and line: a path that leads out of the video folder, a label that is not a class, a video
        listed twice, or two files that may be meant.
    """
    files, numbers = VideoFiles(videos), _ClassNumbers(classes)
    splits: dict[str, list[Entry]] = defaultdict(list)
    missing: dict[str, list[str]] = defaultdict(list)
    listed: dict[str, str] = {}
    search = Search(f"looking for {len(rows)} annotated videos in {videos}")
    for row in rows:
        search.add(1)
        labels = tuple(dict.fromkeys(numbers.number(label, row.where) for label in row.labels))
        name, segment = files.find(row, classes[labels[0]] if labels else "")
        if name is None or not labels:
            missing[row.split].append(row.video)
            continue
        path = os.path.join(videos, name)
        if segment is not None:
            name = f"{name}#{segment[0]:.2f}-{segment[1]:.2f}"
        if name in listed:
            raise UserError(f"{row.where}: {name} is listed already, in {listed[name]}; keep one of them")
        listed[name] = row.where
        splits[row.split].append(Entry(path, labels, name, segment))
    return dict(splits), dict(missing)


class VideoFiles:
    """The videos below a folder, found by path or by name, in any folder and of any suffix."""

    def __init__(self, root: Path) -> None:
        self._root, self._stored = root, StoredNames(root)

    @cached_property
    def _by_stem(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = defaultdict(list)
        search = Search(f"looking through the files and folders in {self._root}")
        for path in find_media(self._root, search):
            found[normal(media_stem(path))].append(path.relative_to(self._root).as_posix())
        search.end()
        return found

    def find(self, row: Row, label: str) -> tuple[str | None, tuple[float, float] | None]:
        """The path below the folder, None if there is no such video; and the segment still to be cut out of it."""
        video = name_below(row.video, self._root, row.where)
        for clip in row.clips:
            if (name := self._find(clip, row, label)) is not None:
                return name, None
        return self._find(video, row, label), row.segment

    def _find(self, video: str, row: Row, label: str) -> str | None:
        if (name := self._stored.find(video)) is not None:
            return name
        stem = normal(media_stem(video))
        for form in (stem, f"v_{stem}", stem.removeprefix("v_")):
            if found := self._choose(self._by_stem.get(form, []), video, row, label):
                return found
        return None

    def _choose(self, found: list[str], video: str, row: Row, label: str) -> str | None:
        """The file whose folders agree best with the path, the split and the class; none if they contradict."""
        agreement = {name: _agreement(name, video, row.split, label) for name in found}
        best = [name for name in found if agreement[name] == max(agreement.values()) >= 0]
        if len(best) > 1:
            kinds = {name: media_kind(self._root / name) for name in best}
            first = next(kind for kind in Media if kind in kinds.values())
            best = [name for name in best if kinds[name] is first]
        if len({os.path.dirname(name) for name in best}) > 1:
            raise UserError(
                f"{row.where}: {row.video} may be {best[0]} or {best[1]} in {self._root}: remove one of them"
            )
        return best[0] if best else None


def _agreement(name: str, video: str, split: str, label: str) -> int:
    """How many folders of a file are those of the path that is wanted, or of its split and class; -1: others."""
    folders = [folded(part) for part in name.split("/")[-2::-1]]
    wanted = [folded(part) for part in video.split("/")[-2::-1]]
    own = {*_SPLIT_FOLDERS[split], folded(label)}
    if folders and wanted and folders[0] not in {wanted[0], *own}:
        return -1
    same = takewhile(lambda pair: pair[0] == pair[1], zip(folders, wanted, strict=False))
    return len(list(same)) + len(own & set(folders))


class _ClassNumbers:
    """Class numbers by name, also where spaces, quotes or case differ, as in names of folders."""

    def __init__(self, classes: tuple[str, ...]) -> None:
        self._classes = classes
        self._exact = {name: number for number, name in enumerate(classes)}
        same: dict[str, list[int]] = defaultdict(list)
        for number, name in enumerate(classes):
            same[folded(name)].append(number)
        self._folded = {name: numbers[0] for name, numbers in same.items() if len(numbers) == 1}

    def number(self, label: str | int, where: str) -> int:
        number = (
            label
            if isinstance(label, int)
            else self._exact.get(normal(label), self._folded.get(folded(label)))
        )
        if number is None or not 0 <= number < len(self._classes):
            raise UserError(
                f"{where}: label {label!r} is not a class: {label_choices(str(label), self._classes)}"
            )
        return number


def folded(name: str) -> str:
    """A name without case, spaces and signs.

    >>> folded("Playing_Drums"), folded("massaging person's head")
    ('playingdrums', 'massagingpersonshead')
    """
    return "".join(filter(str.isalnum, normal(name).casefold()))

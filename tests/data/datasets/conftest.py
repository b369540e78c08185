"""A made data set: empty video files, and annotation files in the form in which the authors give them."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from adafocus_jax.data.datasets import DatasetTable, read_dataset


@dataclass(frozen=True)
class MadeSet:
    videos: Path
    notes: Path

    def touch(self, *names: str) -> None:
        """Empty files in the video folder."""
        for name in names:
            (self.videos / name).parent.mkdir(parents=True, exist_ok=True)
            (self.videos / name).touch()

    def write(self, **files: Any) -> Path:
        """Annotation files by name, with ``__`` for the dot; what is not text becomes JSON."""
        self.notes.mkdir(exist_ok=True)
        for name, content in files.items():
            text = content if isinstance(content, str) else json.dumps(content)
            (self.notes / name.replace("__", ".")).write_bytes(text.encode())
        return self.notes

    def read(self, name: str, **options: Any) -> DatasetTable:
        return read_dataset(name, self.videos, self.notes, **options)

    @staticmethod
    def names(count: int) -> list[str]:
        return [f"class {number:03d}" for number in range(count)]

    @staticmethod
    def found(table: DatasetTable) -> dict[str, list[tuple]]:
        """Name and labels of each entry, and its segment if it has one."""
        return {
            split: [(e.name, e.labels, *([e.segment] if e.segment else [])) for e in entries]
            for split, entries in table.splits.items()
        }


@pytest.fixture
def made(tmp_path: Path) -> MadeSet:
    (tmp_path / "videos").mkdir()
    return MadeSet(tmp_path / "videos", tmp_path / "notes")

"""What a folder of records is to hold: agreed on once, by however many machines work on it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from adafocus_jax.data.datasets import DatasetTable
from adafocus_jax.data.datasets.annotations import Entry
from adafocus_jax.data.records.schema import SCRATCH, About, shard_name
from adafocus_jax.errors import UserError
from adafocus_jax.io import writing


@dataclass(frozen=True)
class Plan:
    """All that is settled before the first video is read. The same on every machine, wherever the videos lie there."""

    settings: dict[str, Any]
    """The flags that change what is stored."""
    about: About
    classes: tuple[str, ...]
    max_labels: int
    """The most labels that one video has."""
    shards: dict[str, list[int]]
    """Videos in each shard, by split."""
    num_missing: int
    """Videos that the annotations name and that are not there."""
    digest: str
    """Stands for the settings and for all videos with their labels; every shard's receipt carries it."""

    @property
    def num_videos(self) -> int:
        """Videos of all splits."""
        return sum(map(sum, self.shards.values()))

    def shard_paths(self, out: Path) -> list[tuple[str, Path]]:
        """The split of each shard and where it goes, split by split."""
        return [
            (split, out / shard_name(split, number, len(sizes), self.about.name))
            for split, sizes in self.shards.items()
            for number in range(len(sizes))
        ]


def make_plan(
    settings: dict[str, Any],
    about: About,
    table: DatasetTable,
    dealt: Mapping[str, Sequence[Sequence[Entry]]],
) -> Plan:
    """The plan for a data set whose entries, by split, are dealt out to shards."""
    entries = {
        split: [[(e.name, e.labels) for e in part] for part in parts] for split, parts in dealt.items()
    }
    content = json.dumps([settings, asdict(about), table.classes, entries], sort_keys=True)
    return Plan(
        settings=json.loads(json.dumps(settings)),  # as it comes back from the file
        about=about,
        classes=table.classes,
        max_labels=max(len(entry.labels) for part in table.splits.values() for entry in part),
        shards={split: [len(part) for part in parts] for split, parts in dealt.items()},
        num_missing=sum(map(len, table.missing.values())),
        digest=hashlib.sha256(content.encode()).hexdigest(),
    )


def claim(out: Path, plan: Plan) -> None:
    """Settles the plan of ``out``: the first of any number of machines writes it, the others must have the same.

    Raises:
      UserError: ``out`` was begun with another plan; names the flags that differ.
    """
    path = out / SCRATCH / "plan.json"
    if not path.is_file():
        with writing(path, overwrite=False) as partial:
            partial.write_text(json.dumps(asdict(plan), indent=1), encoding="utf-8")
    begun = read_plan(out)
    changes = [
        f"--{name.replace('_', '-')} {begun.settings.get(name)}, now {value}"
        for name, value in plan.settings.items()
        if begun.settings.get(name) != value
    ]
    if not changes and begun.digest != plan.digest:
        changes = [
            f"other videos, labels or classes ({begun.num_videos} videos, now {plan.num_videos} videos)"
        ]
    if changes:
        raise UserError(f"{out} was begun with {'; '.join(changes)}: give the same, or another OUT")


def read_plan(out: Path) -> Plan:
    """The plan that ``out`` was begun with.

    Raises:
      UserError: there is none.
    """
    path = out / SCRATCH / "plan.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        about = About(**content.pop("about"))
        return Plan(about=about, classes=tuple(content.pop("classes")), **content)
    except FileNotFoundError as error:
        raise UserError(f"nothing was prepared in {out}: there is no {path}") from error
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path} is damaged ({error}): remove it, and run adafocus prepare again") from error

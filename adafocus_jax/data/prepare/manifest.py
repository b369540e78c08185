"""The plan of a folder of records, which all machines that work on it share."""

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

PLAN_FILE = f"{SCRATCH}/plan.json"


@dataclass(frozen=True)
class Plan:
    """Everything that is fixed before the first video is read; the same on every machine, wherever its videos are."""

    settings: dict[str, Any]
    """The arguments of ``prepare`` that change what is stored."""
    about: About
    classes: tuple[str, ...]
    max_labels: int
    """The largest number of labels of a video."""
    shards: dict[str, list[int]]
    """Videos in each shard, by split."""
    num_missing: int
    """Annotated videos without a file."""
    digest: str
    """SHA-256 of the settings and of all videos with their labels; every shard's receipt carries it."""

    @property
    def num_videos(self) -> int:
        """Videos of all splits."""
        return sum(map(sum, self.shards.values()))

    def shard_paths(self, out: Path) -> list[tuple[str, Path]]:
        """The split and the path of each shard, split by split."""
        return [
            (split, out / shard_name(split, number, len(sizes), self.about.name))
            for split, sizes in self.shards.items()
            for number in range(len(sizes))
        ]


def make_plan(
    settings: dict[str, Any],
    about: About,
    table: DatasetTable,
    assigned: Mapping[str, Sequence[Sequence[Entry]]],
) -> Plan:
    """The plan of a data set; ``assigned``: the entries of each shard, by split."""
    entries = {
        split: [[(e.name, e.labels) for e in part] for part in parts] for split, parts in assigned.items()
    }
    content = json.dumps([settings, asdict(about), table.classes, entries], sort_keys=True)
    return Plan(
        settings=json.loads(json.dumps(settings)),  # as it comes back from the file
        about=about,
        classes=table.classes,
        max_labels=max(len(entry.labels) for part in table.splits.values() for entry in part),
        shards={split: [len(part) for part in parts] for split, parts in assigned.items()},
        num_missing=sum(map(len, table.missing.values())),
        digest=hashlib.sha256(content.encode()).hexdigest(),
    )


def claim(out: Path, plan: Plan, where: str) -> None:
    """Records the plan in ``out``: the first machine writes it, and all others must have the same.

    ``where``: what ``out`` is called in messages.

    Raises:
      UserError: ``out`` was started with another plan; names the arguments that differ.
    """
    path = out / PLAN_FILE
    if not path.is_file():
        with writing(path, overwrite=False) as partial:
            partial.write_text(json.dumps(asdict(plan), indent=1), encoding="utf-8")
    begun = read_plan(out, where)
    changes = [
        f"{name}={begun.settings.get(name)}, now {value}"
        for name, value in plan.settings.items()
        if begun.settings.get(name) != value
    ]
    if not changes and begun.digest != plan.digest:
        changes = [
            f"other videos, labels or classes ({begun.num_videos} videos, now {plan.num_videos} videos)"
        ]
    if changes:
        raise UserError(f"{where} was started with {'; '.join(changes)}: give the same, or another `out`")


def read_plan(out: Path, where: str) -> Plan:
    """The plan that ``out``, called ``where`` in messages, was started with.

    Raises:
      UserError: there is none.
    """
    path = out / PLAN_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        about = About(**content.pop("about"))
        return Plan(about=about, classes=tuple(content.pop("classes")), **content)
    except FileNotFoundError as error:
        raise UserError(f"nothing was prepared in {where}: there is no {where}/{PLAN_FILE}") from error
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{where}/{PLAN_FILE} is damaged ({error}): remove it, and run adafocus prepare again"
        ) from error

"""Data sets of YouTube videos: ActivityNet, Kinetics-400 and Mini-Kinetics. Many of their videos are gone."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from adafocus_jax.data.datasets.files import (
    find_classes,
    find_file,
    find_split_files,
    official_form,
    read_json,
    split_of,
)
from adafocus_jax.data.datasets.list_files import read_lines
from adafocus_jax.data.datasets.spec import Annotations, Row, Source
from adafocus_jax.errors import UserError


def read_activitynet(source: Source, *, trim: bool = False) -> Annotations | None:
    """``activity_net.v1-3.min.json``, as the ActivityNet site describes it.

    ``{"database": {id: {"subset": "training", "annotations": [{"label": …, "segment": [start, end]}, …]}}}``, in
    seconds. Videos are called ``v_ID.mp4``, or by the id alone. Classes are in alphabetical order.

    Args:
      source: with the file. Videos of the testing subset have no labels, and are left out.
      trim: one entry per annotated segment; by default one per video, with all its classes, as in the paper.
    """
    file = find_file(source, r"activity_?net.*\.json")
    if file is None:
        return None
    rows: list[Row] = []
    with official_form(file):
        database = read_json(file)["database"].items()
    for video, facts in database:
        where = f"{file}, video {video}"
        segments: dict[tuple[float, float] | None, list[str]] = defaultdict(list)
        with official_form(where):
            for annotation in facts["annotations"]:
                start, end = annotation["segment"]
                segments[(round(start, 2), round(end, 2)) if trim else None].append(annotation["label"])
            split = split_of(facts["subset"], where)
        rows += [Row(where, split, video, tuple(labels), segment) for segment, labels in segments.items()]
    return Annotations(find_classes(source) or _label_names(rows), rows)


def read_kinetics(source: Source, *, trim: bool = True) -> Annotations | None:
    """The CSV or JSON files of Kinetics, one for each split, as its site and the ActivityNet crawler describe them.

    CSV with the head ``label,youtube_id,time_start,time_end,split``; JSON ``{id: {"annotations": {"label": …,
    "segment": [start, end]}, "subset": "train"}}``. Clips are called ``ID_000012_000022.mp4`` as the crawler and the
    CVD Foundation do, or ``ID_12`` as TSM does. Classes are in alphabetical order.

    Args:
      source: with the files. Videos without label (of some test files) are left out.
      trim: cut the segment out of a file that is called by the id alone; False: such a file is the clip itself.
    """
    rows = _kinetics_rows(source, trim)
    return Annotations(find_classes(source) or _label_names(rows), rows) if rows else None


def read_mini_kinetics(source: Source, *, trim: bool = True) -> Annotations | None:
    """Mini-Kinetics: ``train_ytid_list.txt`` and ``val_ytid_list.txt`` beside the files of Kinetics-400.

    The lists of s9xie/Mini-Kinetics-200 hold an id a line; labels and times are those of Kinetics. Without the lists,
    the Kinetics files are taken to be of the subset already. Classes are in alphabetical order.

    Args:
      source: with the files.
      trim: as for ``read_kinetics``.
    """
    rows = _kinetics_rows(source, trim)
    lists = [path for path in source.files if "ytid" in path.name.lower()]
    if not rows:
        if lists:
            raise UserError(f"{lists[0]} has ids alone: put the CSV files of Kinetics-400 beside it")
        return None
    if lists:
        rows = list(_chosen(rows, lists))
    return Annotations(find_classes(source) or _label_names(rows), rows)


def _chosen(rows: list[Row], lists: list[Path]) -> Iterator[Row]:
    by_video: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_video[row.video].append(row)
    for file in lists:
        split = split_of(file.name.lower().removeprefix("minikinetics_"), str(file))
        for line, video in enumerate(map(str.strip, read_lines(file)), 1):
            known = [row for row in by_video[video] if row.split == split]
            if video:
                yield from known or [Row(f"{file}, line {line}", split, video, ())]


def _kinetics_rows(source: Source, trim: bool) -> list[Row]:
    tables = [
        path
        for path in source.files
        if path.suffix.lower() == ".csv" and "youtube_id" in next(iter(read_lines(path)), "")
    ]
    if tables:
        return [row for path in tables for row in _csv_rows(path, trim)]
    return [row for path in find_split_files(source, (".json",)).values() for row in _json_rows(path, trim)]


def _csv_rows(file: Path, trim: bool) -> Iterator[Row]:
    reader = csv.DictReader(read_lines(file))
    for fields in reader:
        where = f"{file}, line {reader.line_num}"
        with official_form(where):
            if fields.get("label"):
                times = float(fields["time_start"]), float(fields["time_end"])
                split = split_of(fields.get("split") or file.stem.split("_")[-1], where)
                yield _clip(where, split, fields["youtube_id"], fields["label"], times, trim)


def _json_rows(file: Path, trim: bool) -> Iterator[Row]:
    with official_form(file):
        for video, facts in read_json(file).items():
            if "annotations" in facts:
                where, note = f"{file}, video {video}", facts["annotations"]
                start, end = map(float, note["segment"])
                yield _clip(where, split_of(facts["subset"], where), video, note["label"], (start, end), trim)


def _clip(where: str, split: str, video: str, label: str, times: tuple[float, float], trim: bool) -> Row:
    start, end = map(int, times)
    clips = f"{video}_{start:06d}_{end:06d}", f"{video}_{start}"
    return Row(where, split, video, (label.strip(),), times if trim else None, clips)


def _label_names(rows: list[Row]) -> tuple[str, ...]:
    return tuple(sorted({str(label) for row in rows for label in row.labels}))

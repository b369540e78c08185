"""Data sets whose official files give class numbers: Diving48 and FCVID."""

from __future__ import annotations

import dataclasses

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


def read_diving48(source: Source) -> Annotations | None:
    """``Diving48_V2_train.json`` and ``Diving48_V2_test.json``, and ``Diving48_vocab.json``.

    ``[{"vid_name": "_8Vy3dlHg2w_00000", "label": 26, "start_frame": 0, "end_frame": 142}, …]``, of videos that are cut
    already, and ``[["Back", "15som", "05Twis", "FREE"], …]``. Files of the first version, without V2 in the name, do
    not count beside the second. Source: the site of the data set, and ``tools/data/diving48`` of open-mmlab/mmaction2.
    """
    names = find_file(source, r".*vocab\.json")
    if names is None:
        return None
    second = tuple(path for path in source.files if "_v2_" in path.name.lower())
    splits = find_split_files(dataclasses.replace(source, files=second or source.files), (".json",))
    with official_form(names.parent):
        rows = [
            Row(f"{file}, video {video['vid_name']}", split, video["vid_name"], (int(video["label"]),))
            for split, file in splits.items()
            for video in read_json(file)
        ]
        return Annotations(tuple(" ".join(parts) for parts in read_json(names)), rows)


def read_fcvid(source: Source) -> Annotations | None:
    """``FCVID_VideoName_TrainTestSplit.txt`` and ``FCVID_Label.txt`` of the official ``materials`` folder.

    A line ``path train`` or ``path test`` per video in the one, and in the other as many lines of 239 zeros and ones.
    Class names are those of a class file beside them (``classInd.txt``), or else the numbers. Source: the readers of
    these files in public code, such as the data set ``FCVID`` of the ObjectGraphs and ViGAT releases.
    """
    listed, matrix = (find_file(source, rf".*{name}\.txt") for name in ("traintestsplit", "fcvid_label"))
    if listed is None or matrix is None:
        return None
    lines = [(number, line.split()) for number, line in enumerate(read_lines(listed), 1) if line.strip()]
    labels = [line.split() for line in read_lines(matrix) if line.strip()]
    if len(labels) != len(lines):
        raise UserError(
            f"{listed} has {len(lines)} videos, but {matrix.name} {len(labels)} lines: fetch both again"
        )
    rows = []
    for (number, fields), flags in zip(lines, labels, strict=True):
        where = f"{listed}, line {number}"
        with official_form(where):
            chosen = tuple(label for label, flag in enumerate(flags) if float(flag) > 0)
        rows.append(Row(where, split_of(fields[-1], where), " ".join(fields[:-1]), chosen))
    classes = find_classes(source) or tuple(map(str, range(len(labels[0]) if labels else 0)))
    return Annotations(classes, rows)

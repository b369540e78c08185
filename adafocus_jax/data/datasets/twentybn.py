"""Data sets of Twenty Billion Neurons: Something-Something V1 and V2, and Jester."""

from __future__ import annotations

import re
from pathlib import Path

from adafocus_jax.data.datasets.files import (
    find_classes,
    find_file,
    find_split_files,
    official_form,
    read_json,
)
from adafocus_jax.data.datasets.list_files import read_lines
from adafocus_jax.data.datasets.spec import Annotations, Row, Source


def read_semicolons(source: Source) -> Annotations | None:
    """Something-Something V1 and Jester: ``NAME-train.csv`` and ``NAME-validation.csv``, and ``NAME-labels.csv``.

    Lines are ``id;label``, and ``label`` alone in the last file; a video is a folder ``id`` of frames ``00001.jpg`` …
    The lines of the test file have no label, and are left out. Classes are in alphabetical order, as in
    ``tools/gen_label_sthv1.py`` of mit-han-lab/temporal-shift-module, whose numbers the authors' weights have.
    """
    names = find_file(source, r".*labels\.csv")
    if names is None:
        return None
    rows = [
        Row(f"{file}, line {number}", split, video.strip(), (_unquoted(label),))
        for split, file in find_split_files(source, (".csv",)).items()
        for number, line in enumerate(read_lines(file), 1)
        for video, _, label in [line.partition(";")]
        if label
    ]
    classes = sorted({_unquoted(line) for line in read_lines(names)} - {""})
    return Annotations(find_classes(source) or tuple(classes), rows)


def _unquoted(text: str) -> str:
    text = text.strip()
    quoted = len(text) > 1 and text[0] == text[-1] == '"'
    return text[1:-1].replace('""', '"') if quoted else text


def read_templates(source: Source) -> Annotations | None:
    """Something-Something V2: ``…train.json`` and ``…validation.json``, and ``…labels.json``.

    ``[{"id": "78687", "template": "Holding [something] next to [something]", …}, …]`` and ``{"Holding something next
    to something": "41", …}``; a video is ``id.webm``, or a folder of frames. Test videos have no label, and
    are left out. Source: ``tools/gen_label_sthv2.py`` of mit-han-lab/temporal-shift-module.
    """
    names = find_file(source, r".*labels\.json")
    if names is None:
        return None
    rows = [
        row
        for split, file in find_split_files(source, (".json",)).items()
        for row in _template_rows(file, split)
    ]
    with official_form(names):
        numbers = {name: int(number) for name, number in read_json(names).items()}
    return Annotations(tuple(sorted(numbers, key=numbers.__getitem__)), rows)


def _template_rows(file: Path, split: str) -> list[Row]:
    with official_form(file):
        return [
            Row(
                f"{file}, video {video['id']}",
                split,
                str(video["id"]),
                (re.sub(r"[\[\]]", "", video["template"]),),
            )
            for video in read_json(file)
            if "template" in video
        ]

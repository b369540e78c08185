"""Data sets of plugins: registered, prepared by name in another process, and asked for what a config leaves open."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from adafocus_jax.config import base_config, check_config, for_classes
from adafocus_jax.data.batches.sources import open_data
from adafocus_jax.data.datasets import DATASETS, dataset_spec, register_dataset
from adafocus_jax.data.datasets import registry as registry_module
from adafocus_jax.errors import UserError

ROOT = Path(__file__).parents[3]

PLUGIN = """
from pathlib import Path

from adafocus_jax.data.datasets import Annotations, DatasetSpec, Row, register_dataset


def read(source):
    lines = (source.annotations / "gestures.tsv").read_text().splitlines()
    rows = [line.split("\\t") for line in lines]
    return Annotations(
        classes=("left", "right"),
        rows=[Row(f"line {n}", split, video, (label,)) for n, (split, video, label) in enumerate(rows, 1)],
    )


register_dataset(
    DatasetSpec(
        name="gestures",
        title="Gestures of a test",
        num_classes=2,
        metric="mAP",
        max_labels=1,
        flip=False,
        relabel=True,
        citation="",
        homepage="",
        files="gestures.tsv",
        read=read,
        fps=None,
    )
)
"""


@pytest.fixture
def clean_registry(monkeypatch):
    monkeypatch.setattr(registry_module, "DATASETS", dict(DATASETS))


def test_a_plugin_prepares_by_name_and_records_keep_its_facts(write_video, tmp_path):
    (tmp_path / "gestures_plugin.py").write_text(PLUGIN)
    rows = []
    for number in range(4):
        write_video(tmp_path / "videos" / f"{number}.mp4", 6 + number)
        rows.append(f"train\t{number}\t{('left', 'right')[number % 2]}")
    (tmp_path / "gestures.tsv").write_text("\n".join(rows))
    command = ["prepare", "gestures", "--videos", "videos", "--annotations", ".", "records", "--workers", "1"]
    environment = os.environ | {"ADAFOCUS_PLUGINS": "gestures_plugin", "PYTHONPATH": f"{ROOT}:{tmp_path}"}
    done = subprocess.run(
        [sys.executable, "-m", "adafocus_jax", *command],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    source = open_data(tmp_path / "records", "train")
    assert source.traits == {"metric": "mAP", "flip": False, "relabel": True}
    assert (source.classes, sorted(len(source[n].frames) for n in range(4))) == (
        ("left", "right"),
        [6, 7, 8, 9],
    )
    assert json.loads((tmp_path / "records" / "dataset_info.json").read_text())["name"] == "adafocus_gestures"
    settings = for_classes(check_config(base_config("uni_adafocus_tiny")), source.classes, source.traits)
    assert (settings["data"]["flip"], settings["train"]["best_metric"]) == (False, "mAP")


@pytest.mark.parametrize(
    ("flags", "traits", "flip", "metric"),
    [
        ([], None, True, "top1"),
        ([], {"flip": True, "metric": "top1"}, True, "top1"),
        ([], {"flip": False, "metric": "mAP"}, False, "mAP"),
        (["--config.data.flip=True"], {"flip": False, "metric": "mAP"}, True, "mAP"),
        (["--config.data.flip=False", "--config.train.best_metric=top5"], {"flip": True}, False, "top5"),
        (["--config.data.flip_labels=True"], {"flip": False, "relabel": True}, True, "top1"),
    ],
)
def test_what_a_config_leaves_open_is_asked_of_the_data(flags, traits, flip, metric):
    settings = for_classes(check_config(base_config("uni_adafocus_tiny"), flags), ["a", "b"], traits)
    assert (settings["data"]["flip"], settings["train"]["best_metric"]) == (flip, metric)


def test_registering(clean_registry):
    jester = dataset_spec("jester")
    assert register_dataset(jester) is jester  # a module that is imported twice
    mine = register_dataset(
        dataclasses.replace(jester, name="mine", title="mine", num_classes=None, flip=True)
    )
    config = base_config("uni_adafocus_tiny", dataset="mine")
    assert (config.model.num_classes, config.data.flip, config.train.best_metric) == (0, True, "top1")
    with pytest.raises(UserError, match=r"a data set 'mine' already \(mine\): choose another name"):
        register_dataset(dataclasses.replace(mine, title="other"))
    for name in ("", "My Set", "a/b", "ä"):
        with pytest.raises(UserError, match="give a name of small letters"):
            register_dataset(dataclasses.replace(mine, name=name))
    with pytest.raises(UserError, match="unknown data set 'jestr': did you mean 'jester'"):
        base_config(dataset="jestr")

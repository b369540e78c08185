"""Records and a run that the first version wrote: this one opens both, finds the same in them, and resumes the run."""

import json
import tarfile
import zlib
from pathlib import Path

import jax
import numpy as np
import pytest

from adafocus_jax.checkpoint import load_checkpoint
from adafocus_jax.cli.main import run_command
from adafocus_jax.config import complete, run_training
from adafocus_jax.data.records.reader import open_records
from adafocus_jax.errors import UserError

FIXTURES = Path(__file__).parent / "fixtures"


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """``records/`` and ``run/``, of two steps."""
    out = tmp_path_factory.mktemp("written")
    with tarfile.open(FIXTURES / "written_by_0_1.tar.xz") as archive:
        archive.extractall(out, filter="data")
    return out


@pytest.mark.parametrize(
    ("split", "checksum"),
    [("train", 3326456217), ("val", 2093433797)],
)
def test_records_hold_the_same_pixels_and_labels(written, split, checksum):
    videos = open_records(written / "records", split)
    pixels = [frame.pixels.tobytes() for video in videos for frame in video.read(lambda n: list(range(n)))]
    assert [video.labels[0] for video in videos] == [4, 6, 2, 7, 3, 5, 9, 0, 8, 1]
    assert (len(pixels), zlib.crc32(b"".join(pixels))) == (160, checksum)


def test_records_have_times_from_their_rate(written):
    for video in open_records(written / "records", "train"):
        times_sec = np.arange(len(video.frames)) / video.fps
        np.testing.assert_allclose(video.times_sec, times_sec)
        np.testing.assert_allclose([frame.time_sec for frame in video.read(range)], times_sec)


def test_two_threads_may_meet_their_first_old_record_at_once(written, monkeypatch):
    videos = open_records(written / "records", "train")
    features = videos._features
    parse = type(features).deserialize_example_np

    def overtaken(self, record):
        if self is features:
            monkeypatch.undo()
            videos[1]  # As another thread reads it, in the middle of this one's attempt.
        return parse(self, record)

    monkeypatch.setattr(type(features), "deserialize_example_np", overtaken)
    assert [videos[0].labels, videos[1].labels] == [(4,), (6,)]


def test_the_checkpoint_predicts_what_it_did(written, tmp_path):
    words = ["--checkpoint", str(written / "run"), "--data", str(written / "records"), "--out", str(tmp_path)]
    run_command(["evaluate", *words])
    with (
        np.load(FIXTURES / "written_by_0_1.predictions.npz") as then,
        np.load(tmp_path / "predictions.npz") as now,
    ):
        assert now.keys() == then.keys()
        for name in then:
            np.testing.assert_allclose(now[name], then[name], rtol=1e-5, atol=1e-5, err_msg=name)


def test_the_run_is_resumed(written):
    """By its own settings, in which those that came since have their defaults."""
    stored = written / "run" / "checkpoints" / "config.json"
    settings = complete(json.loads(stored.read_text()))
    settings["data"]["dir"], settings["train"]["eval_pictures"] = str(written / "records"), 0
    figures = json.loads((written / "run" / "checkpoints" / "2" / "metrics" / "metrics").read_text())
    result = run_training(settings, written / "run")
    assert (result.step, result.metrics["top1"]) == (2, figures["top1"])
    settings["train"]["steps"] = 3
    with pytest.raises(
        UserError, match=r"train.steps is 2 there, 3 here.*: take the same config to resume .*--init-from"
    ):
        run_training(settings, written / "run")
    with pytest.raises(UserError, match="belongs to another model"):
        run_command(["convert", str(written / "run"), "--set", "model.policy_hidden=7"])
    run_command(["convert", str(written / "run"), "--set", "train.steps=3"])
    before = load_checkpoint(written / "run", "latest").variables["params"]
    assert run_training(settings, written / "run").step == 3
    after = load_checkpoint(written / "run", "latest")
    assert after.step == 3
    moved = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), before, after.variables["params"])
    assert (
        0 < max(jax.tree.leaves(moved)) < 0.1
    )  # by the momentum too: a fresh start would be elsewhere altogether

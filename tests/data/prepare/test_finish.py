"""One data set made in parts, by processes that know nothing of each other, and completed."""

import csv
import fcntl
import hashlib
import multiprocessing
import os
import shutil
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from adafocus_jax.data.prepare.finish import finalize
from adafocus_jax.data.prepare.manifest import claim, read_plan
from adafocus_jax.data.prepare.prepare import prepare
from adafocus_jax.data.records.reader import open_records
from adafocus_jax.errors import UserError
from adafocus_jax.io import partial_path

SMALL = {"size": 20, "workers": 0, "shards": 4, "val_fraction": 0.25}


def contents(out: Path) -> dict[str, bytes]:
    files = (path for path in out.rglob("*") if path.is_file())
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in files if path.suffix != ".lock"}


def shard_files(out: Path) -> set[str]:
    return {path.name for path in out.glob("*array_record*")}


@pytest.fixture(scope="module")
def whole(video_folder, tmp_path_factory) -> Path:
    """What one machine makes."""
    out = tmp_path_factory.mktemp("whole")
    prepare(video_folder, out, **SMALL)
    return out


@pytest.mark.parametrize("count", [1, 3, 11])
def test_parts_are_disjoint_and_make_the_whole(video_folder, whole, tmp_path, count):
    made: list[str] = []
    for index in range(count):
        before = shard_files(tmp_path)
        summary = prepare(video_folder, tmp_path, **SMALL, part=(index, count))
        made += shard_files(tmp_path) - before
        assert summary.complete == (count == 1)
        assert sum(summary.num_videos.values()) <= 15
    assert len(made) == len(set(made)) == 8
    if count > 1:
        with pytest.raises(UserError, match="not finished"):
            open_records(tmp_path, "train")
    summary = finalize(tmp_path)
    assert (summary.complete, summary.num_videos) == (True, {"train": 11, "val": 4})
    assert contents(tmp_path) == contents(whole)
    assert not list(tmp_path.rglob("*.lock"))


def test_folders_of_several_machines_are_copied_into_one(video_folder, whole, tmp_path):
    for index in range(2):
        prepare(video_folder, tmp_path / str(index), **SMALL, part=(index, 2))
        shutil.copytree(tmp_path / str(index), tmp_path / "all", dirs_exist_ok=True)
    finalize(tmp_path / "all")
    assert contents(tmp_path / "all") == contents(whole)


def test_processes_work_in_one_place_at_once(video_folder, whole, tmp_path):
    """Two of each part, all together: they share the work, and no file is made by halves."""
    with ProcessPoolExecutor(4, mp_context=multiprocessing.get_context("spawn")) as pool:
        jobs = [pool.submit(prepare, video_folder, tmp_path, **SMALL, part=(i, 2)) for i in (0, 1, 0, 1)]
        for job in jobs:
            job.result()
    finalize(tmp_path)
    assert contents(tmp_path) == contents(whole)


def test_of_two_plans_at_once_one_wins(whole, tmp_path):
    plan = read_plan(whole, str(whole))
    other = type(plan)(**{**vars(plan), "settings": {**plan.settings, "size": 24}, "digest": "other"})
    (tmp_path / ".prepare").mkdir()
    claim(tmp_path, plan, "here")
    claim(tmp_path, plan, "here")
    with pytest.raises(UserError, match="started with size=20, now 24"):
        claim(tmp_path, other, "here")
    assert read_plan(tmp_path, "here") == plan
    assert [path.name for path in (tmp_path / ".prepare").iterdir()] == ["plan.json"]


def test_a_place_without_hard_links(whole, tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError("Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    (tmp_path / ".prepare").mkdir()
    claim(tmp_path, read_plan(whole, str(whole)), "here")
    assert read_plan(tmp_path, "here") == read_plan(whole, str(whole))


def test_shards_of_another_plan_do_not_count(video_folder, tmp_path):
    """As when machines that were started with different flags copy their folders into one."""
    for index, size in ((0, 20), (1, 24)):
        prepare(video_folder, tmp_path / str(index), **(SMALL | {"size": size}), part=(index, 2))
        shutil.copytree(tmp_path / str(index), tmp_path / "all", dirs_exist_ok=True)
    with pytest.raises(UserError, match="4 of 8 shards are missing, or belong to other settings"):
        finalize(tmp_path / "all")


def test_a_shard_in_other_hands_is_left_to_them(video_folder, tmp_path):
    (tmp_path / ".prepare").mkdir()
    name = "videos-val.array_record-00002-of-00004"
    with open(tmp_path / ".prepare" / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(
            UserError, match=rf"1 of 8 shards are missing, .* the first is .*{name}: wait for the"
        ):
            prepare(video_folder, tmp_path, **SMALL)
    assert name not in shard_files(tmp_path)
    assert prepare(video_folder, tmp_path, **SMALL).complete


def test_what_a_killed_writer_left_is_removed(video_folder, tmp_path):
    (tmp_path / ".prepare").mkdir()
    left = partial_path("videos-val.array_record-00002-of-00004", tmp_path / ".prepare")
    left.write_bytes(b"half")
    prepare(video_folder, tmp_path, **SMALL)
    assert not left.exists()


@pytest.mark.parametrize("harm", ["flipped", "lost", "no receipt", "cut"])
def test_finalize_finds_what_is_wrong(whole, tmp_path, harm):
    shutil.copytree(whole, tmp_path / "out")
    shard = tmp_path / "out" / "videos-train.array_record-00001-of-00004"
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    if harm == "flipped":
        shard.write_bytes(data)
    elif harm == "cut":
        shard.write_bytes(data[:-1])
    else:
        (shard if harm == "lost" else tmp_path / "out" / ".prepare" / f"{shard.name}.json").unlink()
    with pytest.raises(UserError) as error:
        finalize(tmp_path / "out")
    assert str(shard) in str(error.value)
    words = "its checksum differs: remove it" if harm == "flipped" else "1 of 8 shards are missing"
    assert words in str(error.value)


def test_checksums_are_those_that_other_tools_take(whole):
    lines = [line.split("  ") for line in (whole / "SHA256SUMS").read_text().splitlines()]
    assert {name for _, name in lines} >= {*shard_files(whole), "dataset_info.json", "features.json"}
    for checksum, name in lines:
        assert hashlib.sha256((whole / name).read_bytes()).hexdigest() == checksum


def test_finalize_where_nothing_is(tmp_path):
    with pytest.raises(UserError, match="nothing was prepared in"):
        finalize(tmp_path)
    (tmp_path / ".prepare").mkdir()
    (tmp_path / ".prepare" / "plan.json").write_text("{")
    with pytest.raises(UserError, match=r"plan.json is damaged \(.*\): remove it"):
        finalize(tmp_path)


def test_finalize_counts_what_was_skipped(video_folder, tmp_path):
    shutil.copytree(video_folder, tmp_path / "videos")
    (tmp_path / "videos" / "run" / "bad.mp4").touch()
    for index in range(2):
        prepare(tmp_path / "videos", tmp_path / "out", size=20, workers=0, part=(index, 2))
    with pytest.raises(UserError, match=r"1 of 16 videos \(6.2%\) do not decode"):
        finalize(tmp_path / "out")
    assert finalize(tmp_path / "out", max_skipped=0.1).num_skipped == 1
    with open(tmp_path / "out" / "skipped.csv", newline="") as file:
        assert list(csv.reader(file))[1:] == [["train", "run/bad.mp4", "empty file"]]

import csv
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from adafocus_jax.data.datasets import DATASETS
from adafocus_jax.data.datasets.entries import ReadOptions, iter_entry
from adafocus_jax.data.prepare.prepare import FPS, prepare
from adafocus_jax.data.records.reader import open_records
from adafocus_jax.errors import UserError

ROOT = Path(__file__).parents[2]
SMALL = {"size": 20, "workers": 0}


def contents(out: Path) -> dict[str, bytes]:
    """All files but the locks."""
    files = (path for path in out.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in files}


def stamps(out: Path) -> dict[str, int]:
    return {name: (out / name).stat().st_mtime_ns for name in contents(out)}


def skipped(out: Path) -> list[list[str]]:
    with open(out / "skipped.csv", newline="") as file:
        return list(csv.reader(file))


def test_summary_and_files(video_folder, tmp_path):
    summary = prepare(video_folder, tmp_path / "out", val_fraction=0.25, **SMALL)
    assert summary.num_videos == {"train": 11, "val": 4}
    assert summary.num_classes == 3
    assert (summary.num_skipped, skipped(tmp_path / "out")) == (0, [["split", "video", "reason"]])
    for split, frames in summary.num_frames.items():
        assert frames == sum(len(record.frames) for record in open_records(tmp_path / "out", split))
    shards = [path.stat().st_size for path in (tmp_path / "out").glob("*array_record*")]
    assert summary.num_bytes == sum(shards)
    assert len(shards) == 3  # 8 videos or more in each


def test_a_second_run_changes_nothing(video_folder, tmp_path):
    first = prepare(video_folder, tmp_path, **SMALL)
    before = stamps(tmp_path), contents(tmp_path)
    again = prepare(video_folder, tmp_path, **SMALL, max_skipped=0.5)
    assert (stamps(tmp_path), contents(tmp_path)) == before
    assert (again.num_videos, again.num_bytes) == (first.num_videos, first.num_bytes)


def test_bytes_do_not_depend_on_processes_or_place(video_folder, tmp_path):
    shutil.copytree(video_folder, tmp_path / "moved")
    prepare(video_folder, tmp_path / "here", **SMALL, shards=4)
    prepare(tmp_path / "moved", tmp_path / "there", size=20, workers=2, shards=4)
    assert contents(tmp_path / "here") == contents(tmp_path / "there")


def test_shards_mix_the_classes_by_seed(video_folder, tmp_path):
    orders = []
    for seed in (0, 1):
        prepare(video_folder, tmp_path / str(seed), **SMALL, seed=seed)
        orders.append([record.name for record in open_records(tmp_path / str(seed), "train")])
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1]) != orders[0]


def test_videos_that_do_not_decode_are_listed(video_folder, tmp_path, write_video):
    shutil.copytree(video_folder, tmp_path / "videos")
    good = (video_folder / "run/0.mp4").read_bytes()
    (tmp_path / "videos/jump/empty.mp4").touch()
    (tmp_path / "videos/run/text.mp4").write_text("no video")
    (tmp_path / "videos/walk/cut.mp4").write_bytes(good[: len(good) // 2])
    write_video(tmp_path / "videos/walk/one frame.mp4", 1)
    write_video(tmp_path / "videos/walk/odd.avi", 3, 33, 47, 10, codec="mpeg4")
    out = tmp_path / "out"
    with pytest.raises(UserError) as error:
        prepare(tmp_path / "videos", out, **SMALL)
    assert "3 of 20 videos (15.0%)" in str(error.value)
    assert "max_skipped=0.01" in str(error.value)
    reasons = {(split, name): why for split, name, why in skipped(out)[1:]}
    assert reasons == {
        ("train", "jump/empty.mp4"): "empty file",
        ("train", "run/text.mp4"): "not a readable video: Invalid data found when processing input",
        ("train", "walk/cut.mp4"): "not a readable video: Invalid data found when processing input",
    }
    with pytest.raises(UserError, match="not finished"):
        open_records(out, "train")
    before = stamps(out)
    summary = prepare(tmp_path / "videos", out, **SMALL, max_skipped=0.15)
    assert (summary.num_videos, summary.num_skipped) == ({"train": 17}, 3)
    assert {name: when for name, when in stamps(out).items() if "array_record" in name} == {
        name: when for name, when in before.items() if "array_record" in name
    }
    lengths = {record.name: len(record.frames) for record in open_records(out, "train")}
    assert (lengths["walk/one frame.mp4"], lengths["walk/odd.avi"]) == (1, 3)


def test_an_unforeseen_error_costs_one_video(video_folder, tmp_path, monkeypatch):
    def strange(entry, **options):
        if entry.name == "walk/0.mp4":
            raise OverflowError("what\nnow")
        return iter_entry(entry, **options)

    monkeypatch.setattr("adafocus_jax.data.prepare.shards.iter_entry", strange)
    assert prepare(video_folder, tmp_path, **SMALL, max_skipped=0.1).num_skipped == 1
    assert skipped(tmp_path)[1:] == [["train", "walk/0.mp4", "OverflowError: what now"]]


def test_what_is_not_installed_is_not_the_videos_fault(video_folder, tmp_path, monkeypatch):
    def lacking(entry, **options):
        raise UserError("nibabel is not installed")

    monkeypatch.setattr("adafocus_jax.data.prepare.shards.iter_entry", lacking)
    with pytest.raises(UserError, match="nibabel is not installed"):
        prepare(video_folder, tmp_path, **SMALL, max_skipped=1)
    assert [Path(name).name for name in contents(tmp_path)] == ["plan.json"]


def test_nothing_decodes(tmp_path):
    for name in ("a/1.mp4", "b/2.mp4"):
        (tmp_path / "videos" / name).parent.mkdir(parents=True)
        (tmp_path / "videos" / name).touch()
    with pytest.raises(UserError, match=r"no video of the split train decodes, a/1.mp4: empty file"):
        prepare(tmp_path / "videos", tmp_path / "out", **SMALL, max_skipped=1)


def test_lists_with_several_labels(video_folder, tmp_path):
    (tmp_path / "classes.txt").write_text("quick\nslow\nhigh\n")
    (tmp_path / "train.csv").write_text(
        "path,labels\nrun/0.mp4,quick,high\nwalk/1.mp4,slow\njump/0.mp4,2\n".replace(",2", ",high")
    )
    (tmp_path / "val.csv").write_text("walk/2.mp4;1\nrun/2.mp4;0;2;1\n")
    prepare(
        tmp_path / "train.csv",
        tmp_path / "out",
        classes=tmp_path / "classes.txt",
        videos=video_folder,
        val_src=tmp_path / "val.csv",
        **SMALL,
    )
    train, val = (open_records(tmp_path / "out", split) for split in ("train", "val"))
    assert train.classes == val.classes == ("quick", "slow", "high")
    assert train.max_labels == val.max_labels == 3
    labels = {record.name: record.labels for source in (train, val) for record in source}
    assert labels == {
        "run/0.mp4": (0, 2),
        "walk/1.mp4": (1,),
        "jump/0.mp4": (2,),
        "walk/2.mp4": (1,),
        "run/2.mp4": (0, 2, 1),
    }


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"size": 16}, "started with size=20, now 16: give the same, or another `out`"),
        ({"fps": 5.0, "quality": 80}, "fps=10.0, now 5.0; quality=90, now 80"),
        ({"val_fraction": 0.3}, "val_fraction=None, now 0.3"),
        ({"seed": 1}, "seed=0, now 1"),
        ({"shards": 2}, "shards=None, now 2"),
        ({"classes": "classes.txt"}, "other videos, labels or classes"),
    ],
)
def test_other_arguments_in_the_same_place(video_folder, tmp_path, changed, message):
    prepare(video_folder, tmp_path / "out", **SMALL)
    before = contents(tmp_path / "out")
    if "classes" in changed:
        (tmp_path / "classes.txt").write_text("walk\nrun\njump")
        changed = {"classes": tmp_path / "classes.txt"}
    with pytest.raises(UserError) as error:
        prepare(video_folder, tmp_path / "out", **(SMALL | changed))
    assert message in str(error.value)
    assert contents(tmp_path / "out") == before


def test_other_videos_in_the_same_place(video_folder, tmp_path, write_video):
    shutil.copytree(video_folder, tmp_path / "videos")
    prepare(tmp_path / "videos", tmp_path / "out", **SMALL)
    write_video(tmp_path / "videos/run/new.mp4")
    with pytest.raises(UserError, match=r"other videos, labels or classes \(15 videos, now 16 videos\)"):
        prepare(tmp_path / "videos", tmp_path / "out", **SMALL)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"size": 0}, "size=0 is not valid: give 8 pixels or more"),
        ({"fps": -1.0}, "fps=-1.0"),
        ({"quality": 101}, "quality=101 is not valid: give 1…100"),
        ({"workers": -1}, "workers=-1"),
        ({"seed": -1}, "seed=-1"),
        ({"shards": 0}, "shards=0"),
        ({"max_skipped": 2}, "max_skipped=2"),
        ({"max_missing": -1}, "max_missing=-1"),
        ({"part": (4, 4)}, "part=4/4 is not valid: of n parts, give 0/n"),
    ],
)
def test_arguments_out_of_range(video_folder, tmp_path, changed, message):
    with pytest.raises(UserError, match=message):
        prepare(video_folder, tmp_path / "out", **(SMALL | changed))
    assert not (tmp_path / "out").exists()


def test_places_that_would_lose_something(video_folder, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="is a file"):
        prepare(video_folder, tmp_path / "file", **SMALL)
    with pytest.raises(UserError, match="holds other files"):
        prepare(video_folder, tmp_path, **SMALL)
    for out in (video_folder, video_folder / "run" / "records"):
        with pytest.raises(UserError, match="would be taken for a class"):
            prepare(video_folder, out, **SMALL)
    with pytest.raises(UserError, match="Not a directory"):
        prepare(video_folder, tmp_path / "file" / "out", **SMALL)
    assert contents(tmp_path) == {"file": b"mine"}


def test_a_full_disk_leaves_nothing_half_written(video_folder, tmp_path):
    """The limit on file size stands in for the disk: the system refuses the write just so."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(
            UserError, match=r"cannot write .*00000-of-00002.*: .*too large; fix this and run"
        ):
            prepare(video_folder, tmp_path, **SMALL)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [Path(name).name for name in contents(tmp_path)] == ["plan.json"]
    assert prepare(video_folder, tmp_path, **SMALL).num_videos == {"train": 15}


def test_a_lost_shard_is_made_again(video_folder, tmp_path):
    prepare(video_folder, tmp_path, **SMALL)
    before = contents(tmp_path)
    shards = sorted(tmp_path.glob("*array_record*"))
    shards[0].unlink()
    shards[1].write_bytes(shards[1].read_bytes()[:1000])
    prepare(video_folder, tmp_path, **SMALL)
    assert contents(tmp_path) == before


@pytest.fixture
def many_videos(tmp_path, write_video) -> Path:
    for label in "ab":
        first = write_video(tmp_path / "videos" / label / "0.mp4", 200, 240, 320)
        for number in range(1, 18):
            shutil.copy(first, first.with_name(f"{number}.mp4"))
    return tmp_path / "videos"


def start(src: Path, out: Path, *flags: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "adafocus_jax.cli.main", "prepare", str(src), str(out), "--shards", "12"]
    return subprocess.Popen([*command, *flags], cwd=ROOT, stderr=subprocess.PIPE, text=True)


def wait_for(condition, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_killed_run_continues_where_it_stopped(many_videos, tmp_path):
    out, clean = tmp_path / "out", tmp_path / "clean"
    run = start(many_videos, out, "--workers", "2", "--size", "64")
    wait_for(lambda: len(list(out.glob("*array_record*"))) >= 2 or run.poll() is not None)
    workers = children(run.pid)
    run.send_signal(signal.SIGKILL)
    run.communicate()
    wait_for(lambda: not any(is_alive(worker) for worker in workers), 10)
    done = {path.name for path in out.glob("*array_record*")}
    assert 2 <= len(done) < 12, "the run was to be killed in its middle"
    receipts = {path.name.removesuffix(".json") for path in (out / ".prepare").glob("*array_record*.json")}
    assert receipts <= done
    before = stamps(out)
    with pytest.raises(UserError, match="not finished"):
        open_records(out, "train")

    prepare(many_videos, out, size=64, shards=12, workers=0)
    prepare(many_videos, clean, size=64, shards=12, workers=0)
    after = stamps(out)
    assert all(after[name] == before[name] for name in receipts)
    assert contents(out) == contents(clean)


def test_a_killed_worker_is_an_error_and_not_a_hang(many_videos, tmp_path):
    out = tmp_path / "out"
    run = start(many_videos, out, "--workers", "1", "--size", "64")
    # Not between two shards, where no video is being read.
    made, begun = "*array_record*", ".prepare/*.partial"
    wait_for(lambda: all(any(out.glob(kind)) for kind in (made, begun)) or run.poll() is not None)
    # The first child may be the tracker of shared resources; workers are those that read videos.
    workers = [pid for pid in children(run.pid) if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    os.kill(workers[-1], signal.SIGKILL)
    _, text = run.communicate(timeout=30)
    assert run.returncode == 2
    line = text.strip().splitlines()[-1]
    assert "a worker process was killed, perhaps out of memory, at" in line
    assert str(many_videos) in line
    assert "run the same command again" in line
    assert "Traceback" not in text
    assert any(out.glob(made))
    assert prepare(many_videos, out, size=64, shards=12, workers=0).num_videos == {"train": 36}


def test_ctrl_c_stops_soon_and_quietly(many_videos, tmp_path):
    # A job in the background of a shell ignores Ctrl-C, and so would what it starts.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    run = start(many_videos, tmp_path / "out", "--workers", "1", "--size", "64")
    signal.signal(signal.SIGINT, before)
    wait_for(lambda: any((tmp_path / "out").glob("*array_record*")) or run.poll() is not None)
    run.send_signal(signal.SIGINT)
    _, text = run.communicate(timeout=30)
    assert run.returncode == 130
    assert "Traceback" not in text
    assert not list((tmp_path / "out" / ".prepare").glob("*.partial"))


def test_a_data_set_by_name(jester, tmp_path):
    place = {"videos": jester / "videos", "annotations": jester / "lists"}
    with pytest.raises(UserError) as error:
        prepare("jester", tmp_path, **place, size=8, workers=0)
    assert "1 of 8 annotated videos (12.5%) are missing, more than max_missing=0.02" in str(error.value)
    assert (tmp_path / "missing.csv").read_text().split() == ["split,video", "val,107"]
    summary = prepare("jester", tmp_path, **place, size=8, workers=0, max_missing=0.13)
    assert (summary.num_videos, summary.num_missing, summary.num_classes) == ({"train": 6, "val": 1}, 1, 27)
    record = open_records(tmp_path, "val")[0]
    assert (record.name, record.labels, record.fps, len(record.frames)) == ("106", (0,), 12, 10)
    metadata = json.loads((tmp_path / "metadata.json").read_text())
    assert metadata == {
        "max_labels": 1,
        "metric": "top1",
        "flip": False,
        "relabel": DATASETS["jester"].relabel,
    }
    info = json.loads((tmp_path / "dataset_info.json").read_text())
    assert info["name"] == "adafocus_jester"
    assert info["citation"] == DATASETS["jester"].citation
    with pytest.raises(UserError, match=r"frame_rate=12.0, now 6.0"):
        prepare("jester", tmp_path, **place, size=8, max_missing=1, read=ReadOptions(frame_rate=6.0))


def test_rates_that_suit_the_data_set(jester, tmp_path):
    place = {"videos": jester / "videos", "annotations": jester / "lists", "max_missing": 1}
    assert FPS.keys() < DATASETS.keys()
    for fps, count in (("auto", 10), (None, 10), (6.0, 5)):
        prepare("jester", tmp_path / str(fps), **place, size=8, workers=0, fps=fps)
        assert len(open_records(tmp_path / str(fps), "val")[0].frames) == count


def test_names_and_folders(video_folder, jester, tmp_path, monkeypatch):
    shutil.copytree(video_folder, tmp_path / "jester")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        UserError, match=r"the data set jester needs videos=DIR \(for a folder .* give ./jester"
    ):
        prepare("jester", "out")
    assert prepare("./jester", "out", **SMALL).num_videos == {"train": 15}
    with pytest.raises(
        UserError, match=r"no such data set, folder or list file: jestr; did you mean 'jester'\?"
    ):
        prepare("jestr", "other")
    with pytest.raises(UserError, match="`annotations` and `trim` go with the name of a data set"):
        prepare("./jester", "other", annotations=jester / "lists")
    with pytest.raises(UserError, match="jester has no option val_fraction"):
        prepare("jester", "other", videos=jester / "videos", annotations=jester / "lists", val_fraction=0.2)
    assert not Path("other").exists()


def test_the_plan_is_readable(video_folder, tmp_path):
    prepare(video_folder, tmp_path, **SMALL)
    plan = json.loads((tmp_path / ".prepare" / "plan.json").read_text())
    assert (plan["settings"]["size"], plan["settings"]["fps"]) == (20, 10)
    assert plan["shards"] == {"train": [8, 7]}

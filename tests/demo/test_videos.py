"""The made videos: their layout, their truth in decoded frames, and writing that can be broken off."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adafocus_jax.demo import videos
from adafocus_jax.demo.score import source_frames
from adafocus_jax.demo.videos import DemoTask, Video, draw_path, figure_boxes, write_videos
from adafocus_jax.errors import UserError
from adafocus_jax.visualize import files

SMALL = {"num_train": 30, "num_test": 10, "seed": 3, "progress": False}
AT = np.arange(96) + 0.5
WAVE = np.sqrt(2) * np.cos(np.pi * AT / 2)


def decode(path):
    with av.open(str(path)) as container:
        assert container.streams.video[0].average_rate == 8
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def contents(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("made")
    write_videos(root, workers=1, **SMALL)
    return root


@pytest.fixture(scope="module")
def figures(made):
    """(class name, [96, 96, 3] frame as float, bool mask of the figure) of every frame with the figure."""
    found = []
    for name, truth in json.loads((made / "truth.json").read_text()).items():
        frames = decode(next(made.glob(f"*/{name}"))).astype(float)
        for frame, box in zip(frames, truth["boxes"], strict=True):
            if box:
                distance = np.hypot(AT[:, None] - box[0] - 10, AT - box[1] - 10)
                found.append((name.split("/")[0], frame, distance < 9))
    return found


def test_folders_are_balanced_and_truth_names_every_video(made):
    truth = json.loads((made / "truth.json").read_text())
    names = {split: sorted(p.relative_to(made / split).as_posix() for p in (made / split).rglob("*.mp4"))
             for split in ("train", "test")}  # fmt: skip
    assert (len(names["train"]), len(names["test"])) == (30, 10)
    assert sorted(truth) == sorted(names["train"] + names["test"])
    classes = sorted(path.name for path in (made / "train").iterdir())
    assert tuple(classes) == DemoTask().classes
    assert all(classes[one["label"]] == name.split("/")[0] for name, one in truth.items())
    assert [len(list((made / "train" / name).iterdir())) for name in classes] == [3] * 10


def test_figure_is_there_for_a_quarter_and_wholly_inside(made):
    for one in json.loads((made / "truth.json").read_text()).values():
        there = [t for t, box in enumerate(one["boxes"]) if box]
        assert len(one["boxes"]) == 32
        assert there == list(range(there[0], there[0] + 8))
        assert there[0] >= 3
        assert there[-1] < 32 - 3
        boxes = np.array([one["boxes"][t] for t in there])
        assert (boxes[:, :2] >= 0).all()
        assert (boxes[:, :2] + boxes[:, 2:] <= 96).all()
        assert np.isin(source_frames(np.arange(16), 16, 32), there).sum() == 4


def test_stripes_survive_the_codec(figures):
    """Correlation with the true direction beats the other one by far in over 99% of decoded frames."""
    right = []
    for name, frame, mask in figures:
        luma = (frame.mean(axis=-1) - frame[mask].mean()) * mask / mask.sum()
        rows, columns = abs(WAVE @ luma.sum(axis=1)), abs(luma.sum(axis=0) @ WAVE)
        true, other = (rows, columns) if name.endswith("horizontal") else (columns, rows)
        right.append(true > 10 and true > 5 * other)
    assert len(right) == 320
    assert np.mean(right) > 0.99


def test_half_resolution_keeps_the_colour_and_loses_the_stripes(figures):
    colours = dict(DemoTask().colours)
    names, rgb = list(colours), 255 * np.array(list(colours.values()))
    hits, left = [], []
    for name, frame, mask in figures:
        blocks = mask.reshape(48, 2, 48, 2).all(axis=(1, 3))
        half = frame.reshape(48, 2, 48, 2, 3).mean(axis=(1, 3))
        nearest = np.linalg.norm(half[blocks].mean(axis=0) - rgb, axis=1).argmin()
        hits.append(names[nearest] == name.split("-")[0])
        left.append(half[blocks].mean(axis=-1).std() / frame[mask].mean(axis=-1).std())
    assert np.mean(hits) > 0.95
    assert np.median(left) < 0.15


def test_same_seed_same_bytes_whatever_the_workers(made, tmp_path):
    write_videos(tmp_path / "two", workers=2, **SMALL)
    assert contents(tmp_path / "two") == contents(made)
    write_videos(tmp_path / "other", workers=1, **{**SMALL, "seed": 4})
    one, two = (
        (root / "test/red-vertical/test_0007.mp4").read_bytes() for root in (made, tmp_path / "other")
    )
    assert one != two


def test_second_run_writes_only_what_is_missing(made, tmp_path):
    write_videos(tmp_path, workers=1, **SMALL)
    kept, lost = sorted(tmp_path.rglob("*.mp4"))[::2], sorted(tmp_path.rglob("*.mp4"))[1::2]
    for path in lost:
        path.unlink()
    before = [path.stat().st_mtime_ns for path in kept]
    write_videos(tmp_path, workers=1, **SMALL)
    assert [path.stat().st_mtime_ns for path in kept] == before
    assert contents(tmp_path) == contents(made)


def test_killed_in_the_middle_then_finished(made, tmp_path):
    script, out = tmp_path / "make.py", tmp_path / "out"
    call = f"write_videos({str(out)!r}, workers=2, **{SMALL!r})"
    script.write_text(
        f"from adafocus_jax.demo.videos import write_videos\nif __name__ == '__main__':\n    {call}\n"
    )
    path = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen([sys.executable, str(script)], env=path, start_new_session=True)
    while len(list(out.rglob("*.mp4"))) < 5 and process.poll() is None:
        time.sleep(0.002)
    process.kill()
    process.wait()
    wait_for_end_of_group(process.pid)  # workers leave with their parent
    assert not (out / "truth.json").exists()
    for video in out.rglob("*.mp4"):
        assert decode(video).shape == (32, 96, 96, 3)
    write_videos(out, workers=1, **SMALL)
    assert contents(out) == contents(made)


def wait_for_end_of_group(group, seconds=20):
    for _ in range(seconds * 100):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.01)
    os.killpg(group, signal.SIGKILL)
    pytest.fail("workers outlived their parent")


def test_other_arguments_need_another_folder(made):
    before = contents(made)
    with pytest.raises(UserError, match="holds synthetic videos of other arguments"):
        write_videos(made, workers=1, **{**SMALL, "seed": 4})
    assert contents(made) == before


def test_every_class_needs_a_video(tmp_path):
    with pytest.raises(UserError, match=r"num_test=9.*at least 10"):
        write_videos(tmp_path / "new", num_train=10, num_test=9)
    assert not (tmp_path / "new").exists()


def test_progress_is_a_line_where_there_is_no_terminal(tmp_path, capsys):
    write_videos(tmp_path, num_train=10, num_test=10, workers=1)
    assert capsys.readouterr().err.splitlines()[-1] == "writing synthetic videos: 20/20 videos"


def test_stripes_survive_mpeg4_too(tmp_path, monkeypatch):
    monkeypatch.setattr(files.av, "codecs_available", {"mpeg4"})
    video = Video(DemoTask(), 0, "train", 1)
    files.write_mp4(tmp_path / "a.mp4", videos.render(video), 8)
    t = next(t for t, box in enumerate(figure_boxes(video)) if box)
    top, left, _, _ = (round(value) for value in figure_boxes(video)[t])
    rows, columns = (np.s_[top + 6 : top + 14], np.s_[left + 6 : left + 14])
    patch = decode(tmp_path / "a.mp4")[t, rows, columns].mean(axis=-1)
    assert patch.mean(axis=0).std() > 3 * patch.mean(axis=1).std()  # vertical: brightness varies along x


def test_workers_never_load_jax():
    code = "import sys, adafocus_jax.demo.videos; sys.exit('jax' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=True, env=os.environ)


@settings(max_examples=50)
@given(seed=st.integers(0, 2**32), num_frames=st.integers(1, 40), speed=st.floats(0, 200))
def test_paths_stay_inside_and_keep_their_speed(seed, num_frames, speed):
    task = DemoTask(speed_px=speed)
    path = draw_path(task, num_frames, np.random.default_rng(seed))
    assert path.shape == (num_frames, 2)
    assert ((path >= 10 - 1e-9) & (path <= 86 + 1e-9)).all()
    assert (np.linalg.norm(np.diff(path, axis=0), axis=1) <= speed + 1e-9).all()

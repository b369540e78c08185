import importlib.util
import json
import os
import shutil
import subprocess
import sys

import av
import numpy as np
import pytest

from adafocus_jax.cli.main import main
from adafocus_jax.data.records.reader import open_records


@pytest.fixture
def videos(tmp_path):
    """Two classes of two videos, 20 frames at 20 frames per second."""
    for name in ("run/1.mp4", "run/2.mp4", "walk/1.mp4", "walk/2.mp4"):
        path = tmp_path / "videos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(path), "w") as container:
            stream = container.add_stream("mpeg4", rate=20)
            stream.width, stream.height, stream.pix_fmt = 32, 24, "yuv420p"
            for level in range(20):
                frame = av.VideoFrame.from_ndarray(np.full((24, 32, 3), 5 * level, np.uint8), "rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
    return tmp_path / "videos"


def test_a_folder_becomes_records(videos, tmp_path, capsys):
    out = str(tmp_path / "records")
    flags = ["--size", "12", "--fps", "5", "--val-fraction", "0.5", "--workers", "0", "--seed", "3"]
    assert main(["prepare", str(videos), out, *flags, "--json", str(tmp_path / "figures.json")]) == 0
    assert f"{out}: 2 train + 2 val videos of 2 classes, 20 frames" in capsys.readouterr().out
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["num_videos"] == {"train": 2, "val": 2}
    assert figures["num_frames"] == {"train": 10, "val": 10}
    assert figures["num_skipped"] == 0
    record = open_records(out, "val")[0]
    assert (record.fps, record.frame(0).shape) == (5.0, (12, 16, 3))


def test_no_frame_rate_limit_and_json_on_standard_output(videos, tmp_path, capsys):
    assert (
        main(["prepare", str(videos), str(tmp_path / "out"), "--fps", "0", "--workers", "0", "--json", "-"])
        == 0
    )
    assert json.loads(capsys.readouterr().out)["num_frames"] == {"train": 80}


def test_lists(videos, tmp_path, capsys):
    (tmp_path / "classes.txt").write_text("walk\nrun\n")
    (tmp_path / "train.csv").write_text("run/1.mp4,1\nwalk/1.mp4,0\n")
    (tmp_path / "val.csv").write_text("run/2.mp4,run\n")
    lists = ["--classes", "classes.txt", "--val-src", "val.csv", "--videos", "videos"]
    lists = [str(tmp_path / word) if not word.startswith("--") else word for word in lists]
    assert (
        main(["prepare", str(tmp_path / "train.csv"), str(tmp_path / "out"), *lists, "--workers", "0"]) == 0
    )
    assert "2 train + 1 val videos of 2 classes" in capsys.readouterr().out


def test_skipped_videos_are_counted(videos, tmp_path, capsys):
    (videos / "run" / "bad.mp4").write_text("no video")
    command = ["prepare", str(videos), str(tmp_path / "out"), "--workers", "0"]
    assert main(command) == 2
    assert main([*command, "--max-skipped", "0.5"]) == 0
    captured = capsys.readouterr()
    assert "1 videos skipped because they do not decode: see" in captured.out
    (line,) = (line for line in captured.err.splitlines() if line.startswith("adafocus prepare:"))
    assert "1 of 5 videos (20.0%) do not decode, more than --max-skipped 0.01" in line


@pytest.mark.parametrize(
    ("src", "flags", "words"),
    [
        ("nowhere", [], "no such data set, folder or list file"),
        (".", ["--val-fraction", "7"], "--val-fraction 7.0 is not between 0 and 1"),
        (".", ["--quality", "0"], "--quality 0 is not valid"),
        (".", ["--classes", "missing.txt"], "missing.txt does not open"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(videos, tmp_path, capsys, src, flags, words):
    assert main(["prepare", str(videos / src), str(tmp_path / "out"), *flags]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("adafocus prepare: ")
    assert words in line
    assert not (tmp_path / "out").exists()


def test_parts_and_their_end(videos, tmp_path, capsys):
    out = str(tmp_path / "out")
    for index in ("0/2", "1/2"):
        assert main(["prepare", str(videos), out, "--shards", "2", "--workers", "0", "--shard", index]) == 0
        text = capsys.readouterr().out
        assert "2 train videos of 2 classes" in text
        assert (
            f"this is part {index[0]} of 0...1: when all are done, run adafocus prepare --finalize {out}"
            in text
        )
    assert main(["prepare", "--finalize", out, "--json", str(tmp_path / "figures.json")]) == 0
    captured = capsys.readouterr()
    assert "4 train videos of 2 classes" in captured.out
    assert "verifying: 4/4 videos" in captured.err
    assert json.loads((tmp_path / "figures.json").read_text())["complete"] is True
    assert len(open_records(out, "train")) == 4


def test_a_data_set_by_name(videos, tmp_path, capsys):
    (videos / "walk").rename(videos / "NonViolence")
    (videos / "run").rename(videos / "Violence")
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "classInd.txt").write_text("NonViolence\nViolence\n")
    rows = ["NonViolence/1.mp4,0", "Violence/1.mp4,1", "Violence/gone.mp4,1"]
    (tmp_path / "lists" / "train_split.txt").write_text("\n".join(rows))
    command = ["prepare", "violence", "--videos", str(videos), "--workers", "0", "--seed", "5"]
    assert main([*command, str(tmp_path / "all"), "--val-fraction", "0.5", "--fps", "5"]) == 0
    assert "2 train + 2 val videos of 2 classes, 20 frames" in capsys.readouterr().out
    listed = [*command, "--annotations", str(tmp_path / "lists"), str(tmp_path / "listed")]
    assert main(listed) == 2
    assert "1 of 3 annotated videos (33.3%) are missing" in capsys.readouterr().err
    assert main([*listed, "--max-missing", "0.4"]) == 0
    text = capsys.readouterr().out
    assert "2 train videos of 2 classes" in text
    assert f"1 annotated videos are missing: see {tmp_path}/listed/missing.csv" in text


def test_beam_that_is_not_there(videos, tmp_path, capsys):
    if importlib.util.find_spec("apache_beam"):
        pytest.skip("Apache Beam is installed")
    assert main(["prepare", str(videos), str(tmp_path / "out"), "--beam", ""]) == 2
    assert "Apache Beam is not installed: pip install" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--shard", "3"], "'3' is not a part: give I/N, such as 0/8"),
        (["a"], "the following arguments are required"),
    ],
)
def test_words_that_do_not_parse(capsys, words, complaint):
    with pytest.raises(SystemExit) as status:
        main(["prepare", *words])
    assert status.value.code == 2
    assert complaint in capsys.readouterr().err


def test_finalize_goes_alone(tmp_path, capsys):
    assert main(["prepare", "a", "b", "--finalize", str(tmp_path)]) == 2
    assert "goes without DATASET, SRC and OUT: drop a" in capsys.readouterr().err


def test_help_has_examples(capsys):
    with pytest.raises(SystemExit) as status:
        main(["prepare", "--help"])
    assert status.value.code == 0
    text = capsys.readouterr().out
    assert "adafocus prepare videos/ records/ --val-fraction 0.1" in text
    assert all(
        word in " ".join(text.split())
        for word in (
            "--size",
            "--quality",
            "--max-skipped",
            "--shards",
            "skipped.csv",
            "jester 12",
            "mri all frames",
        )
    )


def test_names_that_are_no_text(videos, tmp_path):
    """Records, skipped.csv, pictures and prints keep the bytes that a name has, or draw a sign for them."""
    (tmp_path / "videos" / "class").mkdir(parents=True)
    for name in ("caf\udce9.mp4", f"{'x' * 240}.mp4"):
        shutil.copy(next((videos / "run").glob("*.mp4")), tmp_path / "videos" / "class" / name)
    (tmp_path / "videos" / "class" / "bad\udce9.mp4").touch()
    words = [str(tmp_path / "videos"), str(tmp_path / "out"), "--max-skipped", "0.5", "--workers", "0"]
    assert main(["prepare", *words]) == 0
    assert b"class/bad\xe9.mp4,empty file" in (tmp_path / "out" / "skipped.csv").read_bytes()
    assert {record.name for record in open_records(tmp_path / "out", "train")} >= {"class/caf\udce9.mp4"}
    assert main(["inspect", str(tmp_path / "out"), "--videos", "2"]) == 0
    checking = [sys.executable, "-m", "adafocus_jax", "prepare", str(tmp_path / "videos"), "--check"]
    strict = os.environ | {"PYTHONIOENCODING": "utf-8:strict"}
    assert (
        b"class/bad\xe9.mp4 (train): empty"
        in subprocess.run(checking, capture_output=True, env=strict).stdout
    )

"""``adafocus predict``: any kind of words, JSON lines as they come, pictures of its own for each video, status 1."""

import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from adafocus_jax.cli.main import main
from adafocus_jax.data.media.video import read_video


def predict(run, *words) -> int:
    return main(["predict", "--checkpoint", str(run), *map(str, words)])


def lines_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_json_lines_of_everything_that_can_be_named(run, videos, one_of_each, tmp_path, capsys, monkeypatch):
    listed = tmp_path / "list of videos.txt"
    listed.write_text(f"{one_of_each[1]}\n\n{videos / 'kick' / '0.mp4'}\n")
    monkeypatch.setattr(
        sys, "stdin", io.TextIOWrapper(io.BytesIO(f"{one_of_each[3]}\nnowhere.mp4\n".encode()))
    )
    words = [videos, f"{videos}/walk/[2-3].mp4", "-", "--list", listed]
    assert predict(run, *words, "--jsonl", tmp_path / "out.jsonl", "--no-early-exit", "--top", 3) == 1
    entries = lines_of(tmp_path / "out.jsonl")
    all_four = [str(path) for path in sorted(videos.glob("*/*.mp4"))]
    given = [*all_four, *all_four[2:], str(one_of_each[3]), "nowhere.mp4", str(one_of_each[1]), all_four[0]]
    assert [entry["video"] for entry in entries] == given
    assert [entry for entry in entries if "error" in entry] == [entries[7]]
    first = entries[0]
    assert sorted(score["class"] for score in first["top"]) == ["kick", "run [fast]", "walk"]
    assert len(first["frames"]) == len(first["seconds"]) == len(first["boxes"]) == 2
    assert first["exit"] == 5
    assert first["ms"] > 0
    np.testing.assert_allclose(first["seconds"], np.array(first["frames"]) / 10)
    told = capsys.readouterr()
    assert "no such video: nowhere.mp4" in told.err
    assert "predicting: 10 videos" in told.err
    assert "run [fast]" in told.out.splitlines()[0]


def test_videos_of_one_name_get_pictures_of_their_own(run, videos, tmp_path, capsys):
    paths = [tmp_path / "a" / "clip.mp4", tmp_path / "b" / "clip.mp4", tmp_path / "b" / ("x" * 245 + ".mp4")]
    for path, number in zip(paths, (0, 1, 2), strict=True):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(next(videos.glob(f"*/{number}.mp4")).read_bytes())
    words = [
        *paths,
        "--draw",
        tmp_path / "out",
        "--overlay",
        "--budget",
        0.8,
        "--json",
        tmp_path / "all.json",
    ]
    assert predict(run, *words) == 0
    figures = json.loads((tmp_path / "all.json").read_text())
    names = [[Path(picture).name for picture in entry["pictures"]] for entry in figures["videos"]]
    kinds = ("frames.png", "weights.png", "exits.png", "overlay.mp4")
    assert names[:2] == [[f"{stem}-{kind}" for kind in kinds] for stem in ("clip", "clip-2")]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        name for each in names for name in each
    )
    for entry in figures["videos"]:
        overlay = read_video(entry["pictures"][-1]).frames
        assert len(overlay) == 20
        # Outside of the box it is dark at the frame that was looked at, and not at the one before.
        (at,), (box,) = entry["frames"], entry["boxes"]
        above = overlay[:, : max(round(box[0] * 8) - 8, 1)] if box[0] > 8 else overlay[:, 330:350]
        assert above[at].mean() < 0.6 * above[at - 1].mean()


def test_standard_output_carries_json_lines_alone_and_the_glance_has_no_weights_to_draw(
    run, videos, tmp_path, capsys
):
    words = [videos / "kick" / "0.mp4", "--jsonl", "-", "--exit-share", 0.1, "--draw", tmp_path, "--overlay"]
    assert predict(run, *words) == 0
    (line,) = capsys.readouterr().out.splitlines()
    entry = json.loads(line)
    assert (entry["exit"], entry["boxes"]) == (3, [])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "0-exits.png",
        "0-frames.png",
        "0-overlay.mp4",
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give videos: files, folders, patterns"),
        (["x.mp4", "--stream", "http://x", "--window", "1"], "or else one --stream ADDRESS"),
        (["--stream", "http://x"], "need --window SEC"),
        (["x.mp4", "--overlay"], "--overlay needs --draw"),
        (["@nowhere.txt"], "no such list of videos: nowhere.txt"),
        (["x.mp4", "--budget", "much"], "give a share of the full cost (above 0 and up to 1)"),
    ],
)
def test_user_errors_are_one_line(run, capsys, words, message):
    assert predict(run, *words) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_results_that_do_not_fit_are_an_error_that_names_them(run, videos, capsys):
    assert predict(run, videos / "kick" / "0.mp4", "--no-early-exit", "--csv", "/dev/full") == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line == "adafocus predict: cannot write results to /dev/full: No space left on device: free space"

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from adafocus_jax.cli.main import main
from adafocus_jax.data.prepare.prepare import prepare
from adafocus_jax.visualize.files import write_mp4

ROOT = Path(__file__).parents[2]


@pytest.fixture
def records(tmp_path) -> Path:
    """Three videos each of a red and a green class, 4, 14 and 24 frames long."""
    for label, colour in (("red", (200, 0, 0)), ("green", (0, 200, 0))):
        for number in range(3):
            frames = [np.full((24, 32, 3), colour, np.uint8)] * (4 + 10 * number)
            write_mp4(tmp_path / "videos" / label / f"{number}.mp4", frames, 10)
    prepare(tmp_path / "videos", tmp_path / "records", size=24, workers=0, shards=2, val_fraction=0.34)
    return tmp_path / "records"


def test_whole_records(records, tmp_path, capsys):
    figures_file = tmp_path / "figures.json"
    assert main(["inspect", str(records), "--decode", "--clips", "3", "--json", str(figures_file)]) == 0
    text = capsys.readouterr().out
    assert f"{records}: videos, 2 classes, metric top1, flip True" in text
    assert "train: 4 videos" in text
    assert "32 × 24 px on average" in text
    assert "smallest classes: " in text
    assert "intact: all checksums match, and every record reads" in text
    figures = json.loads(figures_file.read_text())
    assert (figures["status"], figures["damage"]) == (0, [])
    lengths = {"min": 100, "max": 0, "total": 0, "binned": 0}
    for split in figures["splits"].values():
        frames = split["frames_per_video"]
        lengths["min"], lengths["max"] = (
            min(lengths["min"], frames["min"]),
            max(lengths["max"], frames["max"]),
        )
        lengths["total"] += split["num_frames"]
        lengths["binned"] += sum(frames["histogram"]["counts"])
        assert frames["histogram"]["edges"][0] == frames["min"]
        assert frames["histogram"]["edges"][-1] > frames["max"]
    assert lengths == {"min": 4, "max": 24, "total": 84, "binned": 6}
    assert figures["splits"]["val"]["videos_per_class"] == {"green": 1, "red": 1}
    assert figures["pictures"] == [str(records / "contact_sheet.png"), str(records / "clips.png")]
    sheet = cv2.imread(figures["pictures"][0]).astype(int)
    assert ((sheet[..., 2] - sheet[..., 1]) > 150).any(), "red, as stored"
    assert ((sheet[..., 1] - sheet[..., 2]) > 150).any(), "green, as stored"


def test_pictures_elsewhere_or_nowhere(records, tmp_path, capsys):
    before = sorted(records.rglob("*"))
    assert main(["inspect", str(records), "--videos", "0"]) == 0
    config = [f"{ROOT}/configs/demo.py", "--pictures", str(tmp_path / "look")]
    assert main(["inspect", str(records), "--videos", "2", "--clips", "1", "--config", *config]) == 0
    assert sorted(records.rglob("*")) == before
    assert {path.name for path in (tmp_path / "look").iterdir()} == {"contact_sheet.png", "clips.png"}


def test_damage_is_status_1_and_named(records, tmp_path, capsys):
    shard = records / "videos-train.array_record-00001-of-00002"
    data = bytearray(shard.read_bytes())
    data[len(data) - len(data) // 3] ^= 1
    shard.write_bytes(data)
    (records / "videos-val.array_record-00000-of-00002").unlink()
    assert main(["inspect", str(records), "--json", str(tmp_path / "figures.json")]) == 1
    captured = capsys.readouterr()
    damaged = [line for line in captured.err.splitlines() if line.startswith("damaged: ")]
    assert (
        f"damaged: {records}/{shard.name} differs from what was written: its checksum does not match"
        in damaged
    )
    assert f"damaged: {records}/videos-val.array_record-00000-of-00002 is missing" in damaged
    assert "intact" not in captured.out
    assert not list(records.glob("*.png"))
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert len(figures["damage"]) == len(damaged)
    assert figures["status"] == 1


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--videos", "-1"], "--videos: -1 is not valid: give 0 or more"),
        (["--workers", "0"], "--workers: 0 is not valid: give 1 or more"),
    ],
)
def test_flags_out_of_range(capsys, flags, words):
    with pytest.raises(SystemExit) as status:
        main(["inspect", "records", *flags])
    assert status.value.code == 2
    assert words in capsys.readouterr().err


def test_a_split_that_is_not_there(records, capsys):
    assert main(["inspect", str(records), "--split", "tests"]) == 2
    assert "no split 'tests'" in capsys.readouterr().err


def test_where_nothing_is(tmp_path, capsys):
    assert main(["inspect", str(tmp_path)]) == 2
    assert "adafocus inspect: the records in" in capsys.readouterr().err


def test_remote_records(records, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    pictures = tmp_path / "pictures"
    assert main(["inspect", f"file://{records}", "--videos", "2", "--pictures", str(pictures)]) == 0
    assert "intact: all checksums match" in capsys.readouterr().out
    assert [path.name for path in pictures.iterdir()] == ["contact_sheet.png"]
    assert list((tmp_path / "cache" / "adafocus_jax").glob("records-*/*array_record*"))

import csv

import pytest
from PIL import Image

from adafocus_jax.cli.main import main
from adafocus_jax.data.prepare.check import check
from adafocus_jax.data.prepare.prepare import prepare


@pytest.fixture(scope="module")
def mixed(tmp_path_factory, film):
    """Good and bad videos of several kinds."""
    root = tmp_path_factory.mktemp("mixed")
    (root / "class").mkdir()
    times = [number / 25 for number in range(50)]
    whole = film.write(root / "class" / "good.mp4", times, 0.04, header={"movflags": "faststart"})
    for suffix, codec in ((".webm", "libvpx"), (".ts", "libx264"), (".wmv", "wmv2")):
        film.write(root / "class" / f"good{suffix}", times, 0.04, codec=codec)
    data = whole.read_bytes()
    (root / "class" / "cut.mp4").write_bytes(data[: len(data) // 2])
    (root / "class" / "empty.mp4").touch()
    (root / "class" / "text.avi").write_text("no video " * 100)
    webm = (root / "class" / "good.webm").read_bytes()
    (root / "class" / "cut.webm").write_bytes(webm[: len(webm) // 2])
    for folder in ("frames", "broken"):
        (root / "class" / folder).mkdir()
        for number in range(4):
            Image.fromarray(film.picture(number)).save(root / "class" / folder / f"{number:05d}.jpg")
    (root / "class" / "broken" / "00003.jpg").write_bytes(b"no image")
    return root


def test_what_is_found_is_what_prepare_skips(mixed, tmp_path):
    found = check(mixed, workers=2)
    assert found.num_videos == {"train": 10}
    assert [name for _, name, _ in found.skipped] == [
        f"class/{name}" for name in ("broken", "cut.mp4", "cut.webm", "empty.mp4", "text.avi")
    ]
    assert found.skipped_frac == 0.5
    prepare(mixed, tmp_path, size=32, workers=0, max_skipped=0.5)
    with open(tmp_path / "skipped.csv", encoding="utf-8") as file:
        assert [row[1] for row in csv.reader(file)][1:] == [name for _, name, _ in found.skipped]


def test_the_command_lists_and_writes_nothing(mixed, capsys):
    assert main(["prepare", str(mixed), "--check"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "would be skipped: class/empty.mp4 (train): empty file" in lines
    assert lines[-1].startswith(
        "5 of 10 videos (50.0%) would be skipped, more than --max-skipped 0.01; 0 annotated"
    )
    assert not (mixed / ".prepare").exists()
    with pytest.raises(SystemExit):
        main(["prepare", str(mixed)])


def test_a_video_that_no_record_holds_is_skipped(video_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("adafocus_jax.data.prepare.shards.MAX_RECORD_BYTES", 6000)
    prepare(video_folder, tmp_path, size=16, workers=0, shards=2, max_skipped=0.9)
    skipped = (tmp_path / "skipped.csv").read_text().splitlines()[1:]
    assert 0 < len(skipped) < 15
    assert all("as much as a record holds; store fewer frames a second" in line for line in skipped)

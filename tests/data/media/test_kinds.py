import logging

import pytest

from adafocus_jax.data.datasets.annotations import scan_class_folders
from adafocus_jax.data.datasets.lookup import resolve
from adafocus_jax.data.datasets.spec import Row
from adafocus_jax.data.media import kinds as media


@pytest.fixture
def videos(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(3):
            (tmp_path / name / f"{name}{number}.mp4").touch()
    return tmp_path


def search(videos):
    scan_class_folders(videos)
    resolve([Row("list, line 1", "train", "b2", ("b",))], ("a", "b"), videos)


@pytest.mark.parametrize("notice_sec", [0.0, 60.0])
def test_a_search_that_takes_long_says_how_far_it_is(videos, caplog, monkeypatch, notice_sec):
    caplog.set_level(logging.INFO, "adafocus_jax")
    monkeypatch.setattr(media, "_NOTICE_SEC", notice_sec - 0.001)
    search(videos)
    through = f"looking through the files and folders in {videos}"
    expected = [
        *(f"{through}: {count} so far" for count in (3, 6)),
        f"looking for 1 annotated videos in {videos}: 1 so far",
        *(f"{through}: {count} so far" for count in (2, 5, 8)),
    ]
    assert caplog.messages == (expected if not notice_sec else [])

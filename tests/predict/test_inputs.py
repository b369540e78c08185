import cv2
import numpy as np
import pytest

from adafocus_jax.errors import UserError
from adafocus_jax.predict.inputs import expand_videos


@pytest.fixture
def folder(tmp_path):
    """Videos, a folder of frames that is one, and names that look like patterns and lists."""
    for name in ("b.mp4", "a/c [1].MP4", "@list.mp4", "notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    (tmp_path / "frames").mkdir()
    cv2.imwrite(str(tmp_path / "frames" / "0001.png"), np.zeros((4, 4, 3), np.uint8))
    return tmp_path


def found(folder, *words):
    return [path.removeprefix(f"{folder}/") for path in expand_videos(str(folder / word) for word in words)]


def test_words_stand_for_videos(folder):
    assert found(folder, "b.mp4", "nowhere.mp4") == ["b.mp4", "nowhere.mp4"]
    assert found(folder, "frames") == ["frames"]
    assert found(folder, "*.mp4", "none*.mp4") == ["@list.mp4", "b.mp4", "none*.mp4"]
    assert found(folder, "a/c [1].MP4") == ["a/c [1].MP4"], "a name that exists is no pattern"


def test_a_folder_is_all_videos_below_it_and_a_list_is_its_lines(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert set(expand_videos(["."])) == {"b.mp4", "a/c [1].MP4", "@list.mp4", "frames"}
    (folder / "list.txt").write_text("b.mp4\n\na/c [1].MP4\n")
    assert list(expand_videos(["@list.txt", "@list.mp4"])) == ["b.mp4", "a/c [1].MP4", "@list.mp4"]
    with pytest.raises(UserError, match=r"no such list of videos: none\.txt"):
        list(expand_videos(["@none.txt"]))


def test_an_empty_folder_is_passed_on_to_be_complained_about(tmp_path):
    assert list(expand_videos([str(tmp_path)])) == [str(tmp_path)]

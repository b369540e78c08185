import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adafocus_jax.data.datasets.annotations import (
    Entry,
    mirrored_labels,
    read_classes,
    read_list,
    read_splits,
    scan_class_folders,
    split_off,
)
from adafocus_jax.errors import UserError

CLASSES = ("jump", "ride a bike", "run")


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


@pytest.fixture
def videos(tmp_path):
    return touch(tmp_path / "videos", "a.mp4", "sub/b b.mp4", "c,c.webm")


def listed(tmp_path, text, root):
    (tmp_path / "list.txt").write_text(text, encoding="utf-8")
    return [(entry.name, entry.labels) for entry in read_list(tmp_path / "list.txt", root, CLASSES)]


def one_line(error: pytest.ExceptionInfo) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def test_folders_are_classes_in_sorted_order(tmp_path):
    touch(
        tmp_path, "walk/2.mp4", "walk/deep/1.AVI", "run/x.webm", "run/notes.txt", ".hidden/y.mp4", "readme.md"
    )
    entries, classes = scan_class_folders(tmp_path)
    assert classes == ("run", "walk")
    assert [(entry.name, entry.labels) for entry in entries] == [
        ("run/x.webm", (0,)),
        ("walk/2.mp4", (1,)),
        ("walk/deep/1.AVI", (1,)),
    ]
    assert all(Path(entry.path) == tmp_path / entry.name for entry in entries)


def test_a_class_file_fixes_the_numbers_of_folders(tmp_path):
    touch(tmp_path, "walk/2.mp4", "run/x.mp4")
    entries, classes = scan_class_folders(tmp_path, ("walk", "swim", "run"))
    assert classes == ("walk", "swim", "run")
    assert [entry.labels for entry in entries] == [(2,), (0,)]


@pytest.mark.parametrize(
    ("names", "classes", "words"),
    [
        ([], None, ["no class folders"]),
        (["loose.mp4"], None, ["no class folders", "one sub-folder"]),
        (["run/a.mp4", "walk/notes.txt"], None, ["walk", "no videos", ".mp4"]),
        (["run/a.mp4", "Run/a.mp4"], None, ["two classes of the same name", "'Run'", "'run'"]),
        (["run/a.mp4", "run /a.mp4"], None, ["two classes of the same name"]),
        (["wlak/a.mp4"], ("run", "walk"), ["wlak", "not a class", "did you mean 'walk'"]),
    ],
)
def test_folders_that_do_not_fit(tmp_path, names, classes, words):
    touch(tmp_path, *names)
    with pytest.raises(UserError) as error:
        scan_class_folders(tmp_path, classes)
    assert all(word in one_line(error) for word in words)


@pytest.mark.parametrize(
    "text",
    [
        "a.mp4,2\nsub/b b.mp4,0\n",
        "a.mp4;2\nsub/b b.mp4;0",
        "a.mp4\t2\nsub/b b.mp4\t0",
        'a.mp4 2\n"sub/b b.mp4"   0',
        "path,label\r\na.mp4, 2\r\n\r\nsub/b b.mp4, 0\r\n",
        "\ufeffa.mp4,run\nsub/b b.mp4,jump",
        "video class\n./a.mp4 run\n'quoted' 1\n".replace("'quoted' 1\n", '"sub/../sub/b b.mp4" jump\n'),
    ],
    ids=[
        "comma",
        "semicolon",
        "tab",
        "space",
        "header, blank line, CRLF",
        "names, BOM",
        "header, untidy paths",
    ],
)
def test_list_formats(tmp_path, videos, text):
    assert listed(tmp_path, text, videos) == [("a.mp4", (2,)), ("sub/b b.mp4", (0,))]


def test_lists_take_several_labels_and_absolute_paths(tmp_path, videos):
    text = f"{videos}/a.mp4,2,ignored".replace(",ignored", ",0,2") + '\n"c,c.webm",1,'
    assert listed(tmp_path, text, videos) == [("a.mp4", (2, 0)), ("c,c.webm", (1,))]


def test_a_comma_in_one_path_does_not_split_the_others(tmp_path, videos):
    assert listed(tmp_path, "c,c.webm;1\na.mp4;2", videos) == [("c,c.webm", (1,)), ("a.mp4", (2,))]


def test_class_names_with_spaces(tmp_path, videos):
    assert listed(tmp_path, "a.mp4,ride a bike\n", videos) == [("a.mp4", (1,))]


def test_numbers_that_are_names_are_read_as_names_only_if_all_are(tmp_path, videos):
    (tmp_path / "list").write_text("a.mp4,1\nc,c.webm,2".replace("c,c", '"c,c').replace("webm", 'webm"'))
    assert [e.labels for e in read_list(tmp_path / "list", videos, ("1", "2"))] == [(0,), (1,)]
    (tmp_path / "list").write_text('a.mp4,1\n"c,c.webm",0')
    assert [e.labels for e in read_list(tmp_path / "list", videos, ("1", "2"))] == [(1,), (0,)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["names no videos"]),
        ("path,label\n", ["names no videos"]),
        ("a.mp4,3\n", ["line 1", "'3'", "0…2", "jump"]),
        ("a.mp4,0\nsub/b b.mp4,-1\n", ["line 2", "'-1'", "out of range"]),
        ("a.mp4,runn\n", ["'runn'", "did you mean 'run'"]),
        ("a.mp4\n", ["line 1", "no label after a.mp4"]),
        ("a.mp4,0\nsub/../a.mp4,1\n", ["line 2", "listed already", "line 1"]),
        ("../secret.mp4,0\n", ["line 1", "below", "must stay"]),
        ("sub/../../secret.mp4,0\n", ["must stay"]),
        ("/etc/passwd,0\n", ["must stay"]),
        (".,0\n", ["must stay"]),
        ("path,label\na.mp4,0\nnope.mp4,1\ngone.mp4,1\n", ["2 of 3", "nope.mp4", "line 3"]),
        ('"a.mp4,0\nsub/b b.mp4,0\n', ["unbalanced quotes"]),
    ],
)
def test_lists_that_do_not_fit(tmp_path, videos, text, words):
    with pytest.raises(UserError) as error:
        listed(tmp_path, text, videos)
    assert all(word in one_line(error) for word in words)


def test_a_list_that_is_no_text(tmp_path, videos):
    (tmp_path / "list.bin").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(UserError, match="not UTF-8"):
        read_list(tmp_path / "list.bin", videos, CLASSES)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("run\nwalk\nrun\n", "two classes of the same name"),
        ("Run\nrun", "'Run' and 'run'"),
        ("\n \n", "empty"),
    ],
)
def test_class_files_that_do_not_fit(tmp_path, text, message):
    (tmp_path / "classes.txt").write_text(text)
    with pytest.raises(UserError, match=message):
        read_classes(tmp_path / "classes.txt")


def test_class_file(tmp_path):
    (tmp_path / "classes.txt").write_text(" run \n\nride a bike\n")
    assert read_classes(tmp_path / "classes.txt") == ("run", "ride a bike")


ENTRIES = st.lists(st.sampled_from([0, 1, 2]), min_size=6).map(
    lambda labels: [Entry("", (label,), str(i)) for i, label in enumerate([0, 0, 1, 1, 2, 2, *labels])]
)


@given(entries=ENTRIES, fraction=st.floats(0.01, 0.99), seed=st.integers(0, 5))
@settings(max_examples=50)
def test_split_off_is_stratified_and_repeatable(entries, fraction, seed):
    train, val = split_off(entries, fraction, seed, CLASSES)
    assert sorted(train + val, key=lambda e: int(e.name)) == entries
    for label in range(3):
        total, kept = (sum(e.labels == (label,) for e in part) for part in (entries, val))
        assert 1 <= kept <= total - 1
        assert abs(kept - fraction * total) <= 1
    assert split_off(entries, fraction, seed, CLASSES) == (train, val)


def test_split_off_needs_two_of_each_class():
    entries = [Entry("", (label,), str(i)) for i, label in enumerate([0, 0, 1])]
    with pytest.raises(UserError, match="'ride a bike' has one video"):
        split_off(entries, 0.5, 0, CLASSES)
    with pytest.raises(UserError, match="between 0 and 1"):
        split_off(entries, 10, 0, CLASSES)


@pytest.mark.parametrize("name", ["val", "validation", "test"])
def test_a_source_with_its_own_splits(tmp_path, name):
    touch(tmp_path, "train/run/1.mp4", "train/walk/2.mp4", f"{name}/walk/3.mp4")
    splits, classes = read_splits(tmp_path)
    assert classes == ("run", "walk")
    assert {split: [(e.name, e.labels) for e in entries] for split, entries in splits.items()} == {
        "train": [("run/1.mp4", (0,)), ("walk/2.mp4", (1,))],
        "val": [("walk/3.mp4", (1,))],
    }
    with pytest.raises(UserError, match=f"{name}/: drop `val_src` and `val_fraction`"):
        read_splits(tmp_path, val_fraction=0.5)


def test_train_and_test_may_be_classes(tmp_path):
    touch(tmp_path, "train/1.mp4", "test/2.mp4")
    assert read_splits(tmp_path)[1] == ("test", "train")


def test_lists_for_both_splits(tmp_path):
    touch(tmp_path / "videos", "1.mp4", "2.mp4")
    (tmp_path / "classes").write_text("run\nwalk")
    (tmp_path / "train.csv").write_text("1.mp4,run")
    (tmp_path / "val.csv").write_text("2.mp4,walk")
    where = {"classes_file": tmp_path / "classes", "videos": tmp_path / "videos"}
    splits, classes = read_splits(tmp_path / "train.csv", val_src=tmp_path / "val.csv", **where)
    assert classes == ("run", "walk")
    assert [e.labels for e in splits["train"] + splits["val"]] == [(0,), (1,)]
    with pytest.raises(UserError, match="in both splits"):
        read_splits(tmp_path / "train.csv", val_src=tmp_path / "train.csv", **where)
    with pytest.raises(UserError, match="needs a class file"):
        read_splits(tmp_path / "train.csv")
    with pytest.raises(UserError, match="exclude each other"):
        read_splits(tmp_path / "train.csv", val_src=tmp_path / "val.csv", val_fraction=0.1, **where)
    with pytest.raises(UserError, match="goes with a list"):
        read_splits(tmp_path / "videos", videos=tmp_path / "videos")


def test_no_such_source(tmp_path):
    with pytest.raises(UserError, match=r"no such folder or list file: .*nowhere"):
        read_splits(tmp_path / "nowhere")


def test_links_within_the_folder_are_the_owners_choice(tmp_path, videos):
    shutil.copy(videos / "a.mp4", tmp_path / "elsewhere.mp4")
    (videos / "link.mp4").symlink_to(tmp_path / "elsewhere.mp4")
    assert listed(tmp_path, "link.mp4,0", videos) == [("link.mp4", (0,))]


def test_mirrored_labels():
    classes = ("From left to right", "Left-handed", "from RIGHT to left", "brightly", "Turning right")
    assert mirrored_labels(classes) == (2, 1, 0, 3, 4)

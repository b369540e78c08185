import logging
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adafocus_jax.data.datasets.annotations import read_splits, scan_class_folders, split_off
from adafocus_jax.data.datasets.classes import ClassFile, read_class_file, read_classes
from adafocus_jax.data.datasets.entry import Entry
from adafocus_jax.errors import UserError

CLASSES = ("jump", "ride a bike", "run")


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


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
@settings(deadline=None, max_examples=50)
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


@pytest.mark.parametrize("first", [0, 1, 7])
def test_numbers_in_a_class_file_are_the_labels(tmp_path, first):
    (tmp_path / "classes.txt").write_text(
        f"{first + 1} walk on 2 legs\n{first}\t1 run\n{first + 2}, 3 jumps\n"
    )
    assert read_class_file(tmp_path / "classes.txt") == ClassFile(
        ("1 run", "walk on 2 legs", "3 jumps"), first
    )
    (tmp_path / "classes.txt").write_text("3 jumps\n2 hands\n2 feet\n")
    assert read_class_file(tmp_path / "classes.txt") == ClassFile(("3 jumps", "2 hands", "2 feet"), None)


COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"


def test_a_name_is_the_same_in_any_unicode_form(tmp_path):
    touch(tmp_path / "videos", f"{DECOMPOSED}/{DECOMPOSED}.mp4")
    (tmp_path / "classes.txt").write_text(COMPOSED, encoding="utf-8")
    (entry,), classes = scan_class_folders(tmp_path / "videos", read_classes(tmp_path / "classes.txt"))
    assert (classes, entry.labels, Path(entry.path).exists()) == ((COMPOSED,), (0,), True)
    (tmp_path / "list.csv").write_text(f"{COMPOSED}/{COMPOSED}.mp4,{DECOMPOSED}", encoding="utf-8")
    splits, _ = read_splits(
        tmp_path / "list.csv", videos=tmp_path / "videos", classes_file=tmp_path / "classes.txt"
    )
    assert splits["train"] == [entry]
    touch(tmp_path / "videos", f"{COMPOSED}/other.mp4")
    with pytest.raises(UserError, match="two classes of the same name"):
        scan_class_folders(tmp_path / "videos")


def test_what_is_left_out_is_told_in_a_line(tmp_path, caplog):
    touch(
        tmp_path,
        "run/1.mp4",
        "run/._1.mp4",
        "run/notes.txt",
        "run/more.TXT",
        "run/preview.jpg",
        "run/preview2.png",
    )
    touch(
        tmp_path,
        "__MACOSX/run/1.mp4",
        ".ipynb_checkpoints/1.mp4",
        "walk/.thumbs/1.mp4",
        "walk/2.M2TS",
        "walk/3.gif",
    )
    touch(tmp_path, "loose.mp4", "readme.md", "walk/4/00001.webp", "walk/4/._00001.webp", "walk/4/Thumbs.db")
    (tmp_path / "walk" / "round").symlink_to(tmp_path / "walk")
    (tmp_path / "everything").symlink_to(tmp_path)
    caplog.set_level(logging.INFO, "adafocus_jax")
    entries, classes = scan_class_folders(tmp_path)
    assert classes == ("run", "walk")
    assert [entry.name for entry in entries] == ["run/1.mp4", "walk/2.M2TS", "walk/3.gif", "walk/4"]
    (line,) = caplog.messages
    for part in (
        "6 hidden or system files (",
        "2 files in no class folder (1 .mp4, 1 .md)",
        "2 files that are no videos (2 .txt)",
        "2 images beside videos (1 .jpg, 1 .png)",
        "links back to a folder that they are in",
    ):
        assert part in line


def test_links_to_folders_are_followed(tmp_path):
    touch(tmp_path / "store", "a/00001.jpg", "b/1.mp4")
    (tmp_path / "videos" / "run").mkdir(parents=True)
    (tmp_path / "videos" / "run" / "a").symlink_to(tmp_path / "store" / "a")
    (tmp_path / "videos" / "walk").symlink_to(tmp_path / "store" / "b")
    (tmp_path / "store" / "b" / "back").symlink_to(tmp_path / "videos" / "run")
    (tmp_path / "store" / "a" / "forth").symlink_to(tmp_path / "store" / "b")
    entries, _ = scan_class_folders(tmp_path / "videos")
    assert [entry.name for entry in entries][:2] == ["run/a", "run/a/forth/1.mp4"]
    assert entries[-1].name == "walk/back/a"

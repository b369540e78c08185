"""Every data set in the form in which its authors give it, and in the form of the authors' lists."""

import json
from pathlib import Path

import pytest

from adafocus_jax.data.annotations import mirrored_labels
from adafocus_jax.data.datasets import DATASETS, DatasetTable, read_dataset
from adafocus_jax.errors import UserError

BOM = "\ufeff"


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def write(folder: Path, **files: str | list | dict) -> Path:
    """Annotation files by name, ``__`` for the dot; what is not text becomes JSON."""
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / name.replace("__", ".")).write_bytes(text.encode())
    return folder


def names(count: int) -> list[str]:
    return [f"class {number:03d}" for number in range(count)]


def lines(items) -> str:
    return "\n".join(items)


def found(table: DatasetTable) -> dict[str, list[tuple]]:
    """Name and labels of each entry, and its segment if it has one."""
    return {
        split: [(e.name, e.labels, *([e.segment] if e.segment else [])) for e in entries]
        for split, entries in table.splits.items()
    }


@pytest.fixture
def videos(tmp_path):
    (tmp_path / "videos").mkdir()
    return tmp_path / "videos"


@pytest.fixture
def notes(tmp_path):
    return tmp_path / "notes"


def test_the_registry_states_the_facts():
    assert {name: (spec.num_classes, spec.metric, spec.max_labels) for name, spec in DATASETS.items()} == {
        "activitynet": (200, "mAP", 3),
        "fcvid": (239, "mAP", 3),
        "mini_kinetics": (200, "top1", 1),
        "something_v1": (174, "top1", 1),
        "something_v2": (174, "top1", 1),
        "jester": (27, "top1", 1),
        "kinetics400": (400, "top1", 1),
        "diving48": (48, "top1", 1),
        "mri": (None, "top1", 1),
        "violence": (2, "top1", 1),
        "custom": (None, "top1", 3),
    }
    assert [name for name, spec in DATASETS.items() if not spec.flip] == [
        "something_v1",
        "something_v2",
        "jester",
        "mri",
    ]
    assert [name for name, spec in DATASETS.items() if spec.relabel] == ["something_v1", "something_v2"]
    assert all(spec.citation.startswith("@") for spec in DATASETS.values() if spec.num_classes)


# ActivityNet


def activitynet(**videos: tuple[str, list]) -> dict:
    database = {
        video: {
            "duration": 60.0,
            "subset": subset,
            "resolution": "640x480",
            "url": f"https://www.youtube.com/watch?v={video}",
            "annotations": [{"segment": segment, "label": label} for segment, label in annotations],
        }
        for video, (subset, annotations) in videos.items()
    }
    filler = {f"gone{i}": {"subset": "training", "annotations": [{"segment": [0, 1], "label": name}]}
              for i, name in enumerate(names(200))}  # fmt: skip
    return {"database": {**database, **filler}, "taxonomy": [], "version": "VERSION 1.3"}


ACTIVITYNET = activitynet(
    abc_DEF=("training", [([1.25, 9.504], "class 007"), ([20, 30.0], "class 003"), ([40, 50], "class 007")]),
    x=("validation", [([0.0, 12.126], "class 001")]),
    secret=("testing", []),
)


def test_activitynet(videos, notes):
    touch(videos, "train_val/v_abc_DEF.mp4", "train_val/v_x.mkv", "test/v_secret.mp4")
    write(notes, activity_net__v1_3__min__json=ACTIVITYNET)
    table = read_dataset("activitynet", videos, notes)
    assert found(table) == {
        "train": [("train_val/v_abc_DEF.mp4", (7, 3))],
        "val": [("train_val/v_x.mkv", (1,))],
    }
    assert table.classes == tuple(names(200))
    assert table.spec.title == "ActivityNet 1.3"
    assert table.missing == {"train": [f"gone{i}" for i in range(200)]}
    assert table.splits["train"][0].path == str(videos / "train_val/v_abc_DEF.mp4")


def test_activitynet_cut_to_its_segments(videos, notes):
    touch(videos, "v_abc_DEF.mp4", "x.webm")
    file = write(notes, activity_net__v1_3__min__json=ACTIVITYNET) / "activity_net.v1_3.min.json"
    table = read_dataset("activitynet", videos, file, trim=True)
    assert found(table) == {
        "train": [
            ("v_abc_DEF.mp4#1.25-9.50", (7,), (1.25, 9.5)),
            ("v_abc_DEF.mp4#20.00-30.00", (3,), (20, 30)),
            ("v_abc_DEF.mp4#40.00-50.00", (7,), (40, 50)),
        ],
        "val": [("x.webm#0.00-12.13", (1,), (0.0, 12.13))],
    }


def test_a_class_file_fixes_the_numbers(videos, notes):
    touch(videos, "v_x.mp4")
    ordered = [f"{number + 1} {name}" for number, name in enumerate(reversed(names(200)))]
    write(notes, activity_net__v1_3__min__json=ACTIVITYNET, classInd__txt=lines(ordered[::-1]))
    table = read_dataset("activitynet", videos, notes)
    assert table.classes == tuple(reversed(names(200)))
    assert found(table) == {"val": [("v_x.mp4", (198,))]}


def test_activitynet_lists(videos, notes):
    for frame in ("v_a b/image_00001.jpg", "v_c/image_00001.jpg", "d/image_00001.jpg"):
        touch(videos, frame)
    write(
        notes,
        classInd__txt=BOM + "\r\n".join(names(200)),
        actnet_train_split__txt="v_a b,120,7,3,7\r\nv_gone,3,4\r\n",
        actnet_val_split__txt="v_c,30,5,-1,-1\nv_d,9,199",
        missing_train_videofolder__txt="nothing",
    )
    table = read_dataset("activitynet", videos, notes)
    assert found(table) == {"train": [("v_a b", (7, 3))], "val": [("v_c", (5,)), ("d", (199,))]}
    assert table.missing == {"train": ["v_gone"]}
    assert table.classes[7] == "class 007"


# Kinetics

KINETICS_HEAD = "label,youtube_id,time_start,time_end,split\n"


def kinetics_filler(count: int) -> str:
    return lines(f"class {number:03d},gone{number:07d},0,10,train" for number in range(count)) + "\n"


def test_kinetics_csv(videos, notes):
    touch(
        videos,
        "train/class 002/-abcdefghij_000012_000022.mp4",
        "train/massaging person's head/whole.mp4",
        "val/class 002/2.mkv",
    )
    train = (
        f'{KINETICS_HEAD}class 002,-abcdefghij,12,22,train\n"massaging person\'s head",whole,5,15,train\n'
        + kinetics_filler(399)
    )
    write(
        notes,
        train__csv=train.replace("\n", "\r\n"),
        val__csv=BOM + KINETICS_HEAD + "class 002,2,1,11,validate\n",
        test__csv="youtube_id,time_start,time_end,split\nsecret,0,10,test\n",
    )
    table = read_dataset("kinetics400", videos, notes)
    assert table.classes == (*names(399), "massaging person's head")
    expected = {
        "train": [
            ("train/class 002/-abcdefghij_000012_000022.mp4", (2,)),
            ("train/massaging person's head/whole.mp4#5.00-15.00", (399,), (5, 15)),
        ],
        "val": [("val/class 002/2.mkv#1.00-11.00", (2,), (1, 11))],
    }
    assert found(table) == expected
    assert len(table.missing["train"]) == 399
    whole = read_dataset("kinetics400", videos, notes, trim=False, seed=None)
    assert found(whole)["val"] == [("val/class 002/2.mkv", (2,))]


def test_kinetics_json(videos, notes):
    touch(videos, "a_000012_000022.mp4", "b_3/img_00001.jpg")
    train = {f"gone{i}": {"annotations": {"label": name, "segment": [0.0, 10.0]}, "subset": "train"}
             for i, name in enumerate(names(400))}  # fmt: skip
    train["a"] = {"annotations": {"label": "class 009", "segment": [12.0, 22.0]}, "subset": "train"}
    val = {"b": {"annotations": {"label": "class 001", "segment": [3.0, 13.0]}, "subset": "validate"}}
    write(
        notes,
        kinetics_train__json=train,
        kinetics_val__json=val,
        kinetics_test__json={"c": {"subset": "test"}},
    )
    assert found(read_dataset("kinetics400", videos, notes)) == {
        "train": [("a_000012_000022.mp4", (9,))],
        "val": [("b_3", (1,))],
    }


def test_kinetics_lists_of_tsm(videos, notes):
    touch(videos, "playing_drums/id_12/img_00001.jpg", "other/x.mp4", "other/y.mp4")
    write(
        notes,
        kinetics_label_map__txt=lines(names(400)),
        train_videofolder__txt="playing_drums/id_12 300 7\n",
        val_videofolder__txt="images/val/other/x 250 3\nother/y 1.5 8 4\n",
        val_videofolder_flow__txt="nothing",
    )
    assert found(read_dataset("kinetics400", videos, notes)) == {
        "train": [("playing_drums/id_12", (7,))],
        "val": [("other/x.mp4", (3,)), ("other/y.mp4#1.50-8.00", (4,), (1.5, 8))],
    }
    with pytest.raises(UserError, match=r"option trim goes with train\.csv"):
        read_dataset("kinetics400", videos, notes, trim=True)


def test_mini_kinetics(videos, notes):
    touch(videos, "a_000000_000010.mp4", "b_000001_000011.mp4", "c_000001_000011.mp4")
    rows = [f"class {i:03d},id{i},0,10,train" for i in range(200)]
    train = lines([KINETICS_HEAD + "class 000,a,0,10,train", "other,c,1,11,train", *rows])
    write(
        notes,
        kinetics_train__csv=train,
        kinetics_val__csv=KINETICS_HEAD + "class 001,b,1,11,val",
        train_ytid_list__txt=lines(["a", "", "unknown", *(f"id{i}" for i in range(200))]) + "\r\n",
        val_ytid_list__txt="b\n",
    )
    table = read_dataset("mini_kinetics", videos, notes)
    assert found(table) == {"train": [("a_000000_000010.mp4", (0,))], "val": [("b_000001_000011.mp4", (1,))]}
    assert table.missing["train"][:2] == ["unknown", "id0"]
    for file in notes.glob("*.csv"):
        file.unlink()
    with pytest.raises(UserError, match="has ids alone: put the CSV"):
        read_dataset("mini_kinetics", videos, notes)


def test_mini_kinetics_lists(videos, notes):
    touch(videos, "train/brush my hair/a/00001.jpg", "val/b.mp4")
    write(
        notes,
        mini_train_videofolder__txt="images/train/brush my hair/a 300 199\n",
        mini_val_videofolder__txt="b;300;0",
    )
    table = read_dataset("mini_kinetics", videos, notes)
    assert found(table) == {"train": [("train/brush my hair/a", (199,))], "val": [("val/b.mp4", (0,))]}
    assert table.classes[199] == "199"


# Something-Something and Jester

ODD_NAMES = ['Pretending to say "no; never"', "Pushing something from left to right", "Schieben über, etwas"]


@pytest.mark.parametrize(("name", "count"), [("something_v1", 174), ("jester", 27)])
def test_semicolons(videos, notes, name, count):
    touch(videos, "1/00001.jpg", "2/00001.jpg", "30/00001.jpg")
    classes = [*names(count - 3), *ODD_NAMES]
    write(
        notes,
        **{f"{name}-labels__csv": BOM + "\r\n".join(reversed(classes)) + "\r\n"},
        **{f"{name}-train__csv": f"1;{ODD_NAMES[0]}\r\n30;{ODD_NAMES[2]}\r\n4;class 001\r\n"},
        **{f"{name}-validation__csv": '2;"Pretending to say ""no; never"""\n'},
        **{f"{name}-test__csv": "77\n78\n"},
    )
    table = read_dataset(name, videos, notes)
    assert table.classes == tuple(sorted(classes))
    number = table.classes.index
    assert found(table) == {
        "train": [("1", (number(ODD_NAMES[0]),)), ("30", (number(ODD_NAMES[2]),))],
        "val": [("2", (number(ODD_NAMES[0]),))],
    }
    assert table.missing == {"train": ["4"]}


def test_something_v2(videos, notes):
    touch(videos, "20bn/78687.webm", "20bn/5/000001.jpg", "20bn/5.jpg")
    classes = [*names(173), "Holding something next to something"]
    template = {
        "label": "holding potato next to vicks",
        "template": "Holding [something] next to [something]",
    }
    write(
        notes,
        **{"something-something-v2-labels__json": {n: str(i) for i, n in reversed(list(enumerate(classes)))}},
        **{"something-something-v2-train__json": [{"id": "78687", **template, "placeholders": ["potato"]}]},
        **{"something-something-v2-validation__json": [{"id": "5", **template}]},
        **{"something-something-v2-test__json": [{"id": "6"}]},
    )
    table = read_dataset("something_v2", videos, notes)
    assert table.classes == tuple(classes)
    assert found(table) == {"train": [("20bn/78687.webm", (173,))], "val": [("20bn/5", (173,))]}


@pytest.mark.parametrize(("name", "count"), [("something_v1", 174), ("something_v2", 174), ("jester", 27)])
def test_twentybn_lists(videos, notes, name, count):
    touch(videos, "1/00001.jpg", "2/00001.jpg")
    write(
        notes,
        category__txt=lines(names(count)),
        train_videofolder__txt="something/v1/img/1 37 4\n",
        val_videofolder__txt="2 12 26",
    )
    table = read_dataset(name, videos, notes)
    assert found(table) == {"train": [("1", (4,))], "val": [("2", (26,))]}


def test_mirrored_labels():
    classes = ("From left to right", "Left-handed", "from RIGHT to left", "brightly", "Turning right")
    assert mirrored_labels(classes) == (2, 1, 0, 3, 4)


# Diving48 and FCVID


def test_diving48(videos, notes):
    touch(videos, "_8Vy3dlHg2w_00000.mp4", "x_00001.mp4")
    vocabulary = [["Back", "15som", "05Twis", f"FREE{number}"] for number in range(48)]

    def video(name, label):
        return {"vid_name": name, "label": label, "start_frame": 0, "end_frame": 142}

    write(
        notes,
        Diving48_vocab__json=vocabulary,
        Diving48_V2_train__json=[video("_8Vy3dlHg2w_00000", 26), video("gone", 1)],
        Diving48_V2_test__json=[video("x_00001", 47)],
        Diving48_train__json=[video("x_00001", 3)],
    )
    table = read_dataset("diving48", videos, notes)
    assert table.classes[1] == "Back 15som 05Twis FREE1"
    assert found(table) == {"train": [("_8Vy3dlHg2w_00000.mp4", (26,))], "val": [("x_00001.mp4", (47,))]}
    assert table.missing == {"train": ["gone"]}
    write(notes, Diving48_V2_test__json=[{"vid_name": "x"}])
    with pytest.raises(UserError, match=r"not in the official form \(KeyError\('label'\)\)"):
        read_dataset("diving48", videos, notes)


def test_fcvid(videos, notes):
    touch(videos, "panda/a.mp4", "beach/b.flv", "beach/c.mp4")
    flags = [["1" if column in chosen else "0" for column in range(239)] for chosen in ((3, 9), (238,), ())]
    write(
        notes,
        FCVID_VideoName_TrainTestSplit__txt="panda/a.mp4\ttrain\r\nbeach/b.mp4\ttest\r\nbeach/c.mp4 test\r\n",
        FCVID_Label__txt="\r\n".join(map("\t".join, flags)) + "\r\n",
        classInd__txt=lines(f"{number},{name}" for number, name in enumerate(names(239))),
    )
    table = read_dataset("fcvid", videos, notes)
    assert found(table) == {"train": [("panda/a.mp4", (3, 9))], "val": [("beach/b.flv", (238,))]}
    assert table.missing == {"val": ["beach/c.mp4"]}
    assert table.classes[9] == "class 009"
    write(notes, FCVID_Label__txt="\t".join(flags[0]))
    with pytest.raises(UserError, match=r"has 3 videos, but FCVID_Label\.txt 1 lines"):
        read_dataset("fcvid", videos, notes)


def test_fcvid_and_diving48_lists(videos, notes):
    touch(videos, "a/image_00001.jpg", "b.mp4")
    write(notes, fcvid_train_split__txt="a,99,3,9,238\n", fcvid_val_split__txt="b,99,0,-1,-1\n")
    assert found(read_dataset("fcvid", videos, notes)) == {
        "train": [("a", (3, 9, 238))],
        "val": [("b.mp4", (0,))],
    }
    write(notes.with_name("diving"), train__csv="a,47\n", test__csv="b.mp4,0\n")
    table = read_dataset("diving48", videos, notes.with_name("diving"))
    assert found(table) == {"train": [("a", (47,))], "val": [("b.mp4", (0,))]}


# Folders


def test_violence(videos, notes):
    touch(videos, *(f"{name}/{name[0]}V_{i}.mp4" for name in ("Violence", "NonViolence") for i in range(5)))
    table = read_dataset("violence", videos, val_fraction=0.2, seed=1)
    assert table.classes == ("NonViolence", "Violence")
    assert {split: len(entries) for split, entries in table.splits.items()} == {"train": 8, "val": 2}
    assert not table.missing
    write(notes, train_list__txt="V_1 0\n".replace("V_1", "VV_1"), classInd__txt="NonViolence\nViolence")
    assert found(read_dataset("violence", videos, notes)) == {"train": [("Violence/VV_1.mp4", (0,))]}
    touch(videos, "other/x.mp4")
    with pytest.raises(UserError, match="holds NonViolence, Violence, other: give the folder"):
        read_dataset("violence", videos)


def test_mri_folders_split_by_patient(videos):
    scans = [
        f"{group}/sub-{group[0]}{i}/ses-{s}.nii.gz"
        for group in ("ill", "well")
        for i in range(4)
        for s in "12"
    ]
    touch(videos, *scans, "well/sub-w9_T1w.nii", "well/sub-w9_T2w.nii")
    table = read_dataset("mri", videos, val_fraction=0.4)
    assert table.classes == ("ill", "well")
    assert sum(map(len, table.splits.values())) == len(scans) + 2
    patients = {
        split: {entry.name[: entry.name.index("sub-") + 6] for entry in entries}
        for split, entries in table.splits.items()
    }
    assert len(patients["val"]) == 4
    assert not patients["train"] & patients["val"]


def test_mri_table(videos, notes):
    touch(videos, "1.nii", "2.nii.gz", "3.nii")
    head = "path,label,patient,split\n"
    write(notes, scans__csv=head + "1.nii,ill,p1,train\n2,well,p2,test\n3.nii,ill,p1,\n4.nii,ill,p4,train")
    table = read_dataset("mri", videos, notes)
    assert found(table) == {"train": [("1.nii", (0,)), ("3.nii", (0,))], "val": [("2.nii.gz", (1,))]}
    assert table.missing == {"train": ["4.nii"]}
    with pytest.raises(UserError, match="is of the split test already: drop --val-fraction"):
        read_dataset("mri", videos, notes, val_fraction=0.5)
    write(notes, scans__csv=head + "1.nii,ill,p1,train\n2,ill,p1,val")
    with pytest.raises(UserError, match="line 3: patient p1 is in two splits, train and val"):
        read_dataset("mri", videos, notes)
    write(notes, scans__csv="path,label\n1.nii,ill")
    with pytest.raises(UserError, match=r"line 2: not in the official form \(KeyError\('patient'\)\)"):
        read_dataset("mri", videos, notes)


def test_custom(videos, notes):
    touch(videos, "run/a.mp4", "walk/b/img_1.jpg", "walk/b/img_2.jpg")
    assert found(read_dataset("custom", videos)) == {"train": [("run/a.mp4", (0,)), ("walk/b", (1,))]}
    write(notes, list__txt="walk/b,walk\nrun/a.mp4,run", classes__txt="walk\nrun")
    table = read_dataset("custom", videos, notes / "list.txt", classes_file=notes / "classes.txt")
    assert found(table) == {"train": [("walk/b", (0,)), ("run/a.mp4", (1,))]}
    write(notes, train_split__txt="b,2,1", val_split__txt="a,9,0")
    assert found(read_dataset("custom", videos, notes)) == {
        "train": [("walk/b", (1,))],
        "val": [("run/a.mp4", (0,))],
    }
    (notes / "classes.txt").unlink()
    with pytest.raises(UserError, match="has no class file"):
        read_dataset("custom", videos, notes)


# What does not fit

JESTER = {"category__txt": lines(names(27))}


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"train__txt": "1 3 27"}, ["train.txt, line 1", "label 27 is not a class", "0…26"]),
        ({"train__txt": "1 3 0\n2 3 -1"}, ["train.txt, line 2", "label -1"]),
        ({"train__txt": "1 3 0.5"}, ["line 1", "'0.5' is not a whole number"]),
        ({"train__txt": "1 three"}, ["line 1", "no class number after 1 three"]),
        ({"train__txt": "1 2 3 4 5"}, ["line 1", "4 numbers after 1"]),
        ({"train__txt": "../out 3 0"}, ["line 1", "../out", "must stay"]),
        ({"train__txt": "/etc/passwd 3 0"}, ["line 1", "must stay"]),
        ({"train__txt": "1 3 0\n./1 5 1"}, ["line 2", "1 is listed already", "line 1"]),
        ({"train__txt": "1 3 0", "val__txt": "1 3 0"}, ["val.txt, line 1", "listed already", "train.txt"]),
        ({"train__txt": "1 3 0", "training__csv": "1 3 0"}, ["both look like the split train"]),
        ({"train__txt": "8 3 0\n9 3 0"}, ["none of the 2 videos"]),
        ({"train__txt": "twice 3 0"}, ["twice may be", "a/twice.mp4", "b/twice.mp4"]),
        ({"notes__md": ""}, ["holds neither jester-v1-labels.csv", "train_split.txt"]),
        ({"x-labels__csv": "a\nb", "x-train__csv": "1;a"}, ["has 2 classes", "Jester has 27", "custom"]),
        (
            {"x-labels__csv": lines(names(27)), "x-train__csv": "1;class 001\n2;klass 002"},
            ["x-train.csv, line 2", "'klass 002'", "did you mean 'class 002'"],
        ),
    ],
)
def test_annotations_that_do_not_fit(videos, notes, files, words):
    touch(videos, "1/00001.jpg", "2/00001.jpg", "a/twice.mp4", "b/twice.mp4")
    lists = any(name.endswith("txt") for name in files)
    with pytest.raises(UserError) as error:
        read_dataset("jester", videos, write(notes, **files, **(JESTER if lists else {})))
    assert "\n" not in str(error.value)
    assert all(word in str(error.value) for word in words), error.value


def test_calls_that_do_not_fit(videos, notes):
    with pytest.raises(UserError, match="unknown data set 'imagenet': choose from activitynet"):
        read_dataset("imagenet", videos)
    with pytest.raises(UserError, match="jester has no option trim: it has none"):
        read_dataset("jester", videos, trim=True)
    with pytest.raises(UserError, match="activitynet has no option seed: it has trim"):
        read_dataset("activitynet", videos, seed=1)
    with pytest.raises(UserError, match="needs its annotation files: give --annotations DIR with jester-v1"):
        read_dataset("jester", videos)
    with pytest.raises(UserError, match="no such folder of videos"):
        read_dataset("jester", videos / "no")
    with pytest.raises(UserError, match="no such folder or file of annotations"):
        read_dataset("jester", videos, notes)


@pytest.mark.parametrize("content", ["{", "[]", '{"database": 3}', '{"database": {"x": {"subset": "training"}}}',
    '{"database": {"x": {"subset": "tra", "annotations": []}}}'])  # fmt: skip
def test_broken_json(videos, notes, content):
    with pytest.raises(UserError, match=r"activity_net\.json"):
        read_dataset("activitynet", videos, write(notes, activity_net__json=content))


def test_files_of_one_name_are_told_apart_by_folder(videos, notes):
    touch(videos, "train/run/1.mp4", "train/walk/1.mp4", "val/walk/1.mp4", "walk/2/img_1.jpg", "walk/2.webm")
    write(
        notes,
        category__txt=lines(["run", "walk", *names(25)]),
        train__txt="x/walk/1 9 1\n1 9 0\nwalk/2.mp4 9 1",
        val__txt="1 9 1",
    )
    assert found(read_dataset("jester", videos, notes)) == {
        "train": [("train/walk/1.mp4", (1,)), ("train/run/1.mp4", (0,)), ("walk/2.webm", (1,))],
        "val": [("val/walk/1.mp4", (1,))],
    }


def test_a_video_of_another_folder_is_not_taken_for_a_missing_one(videos, notes):
    touch(videos, "run/1.mp4", "2.mp4")
    write(
        notes, category__txt=lines(["run", "walk", *names(25)]), train__txt="walk/1.mp4 9 1\nwalk/2.mp4 9 1"
    )
    table = read_dataset("jester", videos, notes)
    assert found(table) == {"train": [("2.mp4", (1,))]}
    assert table.missing == {"train": ["walk/1.mp4"]}

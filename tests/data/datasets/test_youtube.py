import pytest

from adafocus_jax.data.datasets import read_dataset
from adafocus_jax.errors import UserError

BOM = "\ufeff"
NAMES = [f"class {number:03d}" for number in range(200)]


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
              for i, name in enumerate(NAMES)}  # fmt: skip
    return {"database": {**database, **filler}, "taxonomy": [], "version": "VERSION 1.3"}


ACTIVITYNET = activitynet(
    abc_DEF=("training", [([1.25, 9.504], "class 007"), ([20, 30.0], "class 003"), ([40, 50], "class 007")]),
    x=("validation", [([0.0, 12.126], "class 001")]),
    secret=("testing", []),
)


def test_activitynet(made):
    made.touch("train_val/v_abc_DEF.mp4", "train_val/v_x.mkv", "test/v_secret.mp4")
    made.write(activity_net__v1_3__min__json=ACTIVITYNET)
    table = made.read("activitynet")
    assert made.found(table) == {
        "train": [("train_val/v_abc_DEF.mp4", (7, 3))],
        "val": [("train_val/v_x.mkv", (1,))],
    }
    assert table.classes == tuple(made.names(200))
    assert table.spec.title == "ActivityNet 1.3"
    assert table.missing == {"train": [f"gone{i}" for i in range(200)]}
    assert table.splits["train"][0].path == str(made.videos / "train_val/v_abc_DEF.mp4")


def test_activitynet_cut_to_its_segments(made):
    made.touch("v_abc_DEF.mp4", "x.webm")
    file = made.write(activity_net__v1_3__min__json=ACTIVITYNET) / "activity_net.v1_3.min.json"
    table = read_dataset("activitynet", made.videos, file, trim=True)
    assert made.found(table) == {
        "train": [
            ("v_abc_DEF.mp4#1.25-9.50", (7,), (1.25, 9.5)),
            ("v_abc_DEF.mp4#20.00-30.00", (3,), (20, 30)),
            ("v_abc_DEF.mp4#40.00-50.00", (7,), (40, 50)),
        ],
        "val": [("x.webm#0.00-12.13", (1,), (0.0, 12.13))],
    }


def test_a_class_file_fixes_the_numbers(made):
    made.touch("v_x.mp4")
    ordered = [f"{number + 1} {name}" for number, name in enumerate(reversed(made.names(200)))]
    made.write(activity_net__v1_3__min__json=ACTIVITYNET, classInd__txt="\n".join(ordered[::-1]))
    table = made.read("activitynet")
    assert table.classes == tuple(reversed(made.names(200)))
    assert made.found(table) == {"val": [("v_x.mp4", (198,))]}


def test_activitynet_lists(made):
    for frame in ("v_a b/image_00001.jpg", "v_c/image_00001.jpg", "d/image_00001.jpg"):
        made.touch(frame)
    made.write(
        classInd__txt=BOM + "\r\n".join(made.names(200)),
        actnet_train_split__txt="v_a b,120,7,3,7\r\nv_gone,3,4\r\n",
        actnet_val_split__txt="v_c,30,5,-1,-1\nv_d,9,199",
        missing_train_videofolder__txt="nothing",
    )
    table = made.read("activitynet")
    assert made.found(table) == {"train": [("v_a b", (7, 3))], "val": [("v_c", (5,)), ("d", (199,))]}
    assert table.missing == {"train": ["v_gone"]}
    assert table.classes[7] == "class 007"


# Kinetics

KINETICS_HEAD = "label,youtube_id,time_start,time_end,split\n"


def kinetics_filler(count: int) -> str:
    return "\n".join(f"class {number:03d},gone{number:07d},0,10,train" for number in range(count)) + "\n"


def test_kinetics_csv(made):
    made.touch(
        "train/class 002/-abcdefghij_000012_000022.mp4",
        "train/massaging person's head/whole.mp4",
        "val/class 002/2.mkv",
    )
    train = (
        f'{KINETICS_HEAD}class 002,-abcdefghij,12,22,train\n"massaging person\'s head",whole,5,15,train\n'
        + kinetics_filler(399)
    )
    made.write(
        train__csv=train.replace("\n", "\r\n"),
        val__csv=BOM + KINETICS_HEAD + "class 002,2,1,11,validate\n",
        test__csv="youtube_id,time_start,time_end,split\nsecret,0,10,test\n",
    )
    table = made.read("kinetics400")
    assert table.classes == (*made.names(399), "massaging person's head")
    expected = {
        "train": [
            ("train/class 002/-abcdefghij_000012_000022.mp4", (2,)),
            ("train/massaging person's head/whole.mp4#5.00-15.00", (399,), (5, 15)),
        ],
        "val": [("val/class 002/2.mkv#1.00-11.00", (2,), (1, 11))],
    }
    assert made.found(table) == expected
    assert len(table.missing["train"]) == 399
    whole = made.read("kinetics400", trim=False, seed=None)
    assert made.found(whole)["val"] == [("val/class 002/2.mkv", (2,))]


def test_kinetics_json(made):
    made.touch("a_000012_000022.mp4", "b_3/img_00001.jpg")
    train = {f"gone{i}": {"annotations": {"label": name, "segment": [0.0, 10.0]}, "subset": "train"}
             for i, name in enumerate(made.names(400))}  # fmt: skip
    train["a"] = {"annotations": {"label": "class 009", "segment": [12.0, 22.0]}, "subset": "train"}
    val = {"b": {"annotations": {"label": "class 001", "segment": [3.0, 13.0]}, "subset": "validate"}}
    made.write(
        kinetics_train__json=train,
        kinetics_val__json=val,
        kinetics_test__json={"c": {"subset": "test"}},
    )
    assert made.found(made.read("kinetics400")) == {
        "train": [("a_000012_000022.mp4", (9,))],
        "val": [("b_3", (1,))],
    }


def test_kinetics_lists_of_tsm(made):
    made.touch("playing_drums/id_12/img_00001.jpg", "other/x.mp4", "other/y.mp4")
    made.write(
        kinetics_label_map__txt="\n".join(made.names(400)),
        train_videofolder__txt="playing_drums/id_12 300 7\n",
        val_videofolder__txt="images/val/other/x 250 3\nother/y 1.5 8 4\n",
        val_videofolder_flow__txt="nothing",
    )
    assert made.found(made.read("kinetics400")) == {
        "train": [("playing_drums/id_12", (7,))],
        "val": [("other/x.mp4", (3,)), ("other/y.mp4#1.50-8.00", (4,), (1.5, 8))],
    }
    with pytest.raises(UserError, match=r"option trim goes with train\.csv"):
        made.read("kinetics400", trim=True)


def test_mini_kinetics(made):
    made.touch("a_000000_000010.mp4", "b_000001_000011.mp4", "c_000001_000011.mp4")
    rows = [f"class {i:03d},id{i},0,10,train" for i in range(200)]
    train = "\n".join([KINETICS_HEAD + "class 000,a,0,10,train", "other,c,1,11,train", *rows])
    made.write(
        kinetics_train__csv=train,
        kinetics_val__csv=KINETICS_HEAD + "class 001,b,1,11,val",
        train_ytid_list__txt="\n".join(["a", "", "unknown", *(f"id{i}" for i in range(200))]) + "\r\n",
        val_ytid_list__txt="b\n",
    )
    table = made.read("mini_kinetics")
    assert made.found(table) == {
        "train": [("a_000000_000010.mp4", (0,))],
        "val": [("b_000001_000011.mp4", (1,))],
    }
    assert table.missing["train"][:2] == ["unknown", "id0"]
    for file in made.notes.glob("*.csv"):
        file.unlink()
    with pytest.raises(UserError, match="has ids alone: put the CSV"):
        made.read("mini_kinetics")


def test_mini_kinetics_lists(made):
    made.touch("train/brush my hair/a/00001.jpg", "val/b.mp4")
    made.write(
        mini_train_videofolder__txt="images/train/brush my hair/a 300 199\n",
        mini_val_videofolder__txt="b;300;0",
    )
    table = made.read("mini_kinetics")
    assert made.found(table) == {"train": [("train/brush my hair/a", (199,))], "val": [("val/b.mp4", (0,))]}
    assert table.classes[199] == "199"

import pytest

from adafocus_jax.errors import UserError


def test_diving48(made):
    made.touch("_8Vy3dlHg2w_00000.mp4", "x_00001.mp4")
    vocabulary = [["Back", "15som", "05Twis", f"FREE{number}"] for number in range(48)]

    def video(name, label):
        return {"vid_name": name, "label": label, "start_frame": 0, "end_frame": 142}

    made.write(
        Diving48_vocab__json=vocabulary,
        Diving48_V2_train__json=[video("_8Vy3dlHg2w_00000", 26), video("gone", 1)],
        Diving48_V2_test__json=[video("x_00001", 47)],
        Diving48_train__json=[video("x_00001", 3)],
    )
    table = made.read("diving48")
    assert table.classes[1] == "Back 15som 05Twis FREE1"
    assert made.found(table) == {"train": [("_8Vy3dlHg2w_00000.mp4", (26,))], "val": [("x_00001.mp4", (47,))]}
    assert table.missing == {"train": ["gone"]}
    made.write(Diving48_V2_test__json=[{"vid_name": "x"}])
    with pytest.raises(UserError, match=r"not in the official form \(KeyError\('label'\)\)"):
        made.read("diving48")


def test_fcvid(made):
    made.touch("panda/a.mp4", "beach/b.flv", "beach/c.mp4")
    flags = [["1" if column in chosen else "0" for column in range(239)] for chosen in ((3, 9), (238,), ())]
    made.write(
        FCVID_VideoName_TrainTestSplit__txt="panda/a.mp4\ttrain\r\nbeach/b.mp4\ttest\r\nbeach/c.mp4 test\r\n",
        FCVID_Label__txt="\r\n".join(map("\t".join, flags)) + "\r\n",
        classInd__txt="\n".join(f"{number},{name}" for number, name in enumerate(made.names(239))),
    )
    table = made.read("fcvid")
    assert made.found(table) == {"train": [("panda/a.mp4", (3, 9))], "val": [("beach/b.flv", (238,))]}
    assert table.missing == {"val": ["beach/c.mp4"]}
    assert table.classes[9] == "class 009"
    made.write(FCVID_Label__txt="\t".join(flags[0]))
    with pytest.raises(UserError, match=r"has 3 videos, but FCVID_Label\.txt 1 lines"):
        made.read("fcvid")


def test_fcvid_lists(made):
    made.touch("a/image_00001.jpg", "b.mp4")
    made.write(fcvid_train_split__txt="a,99,3,9,238\n", fcvid_val_split__txt="b,99,0,-1,-1\n")
    assert made.found(made.read("fcvid")) == {
        "train": [("a", (3, 9, 238))],
        "val": [("b.mp4", (0,))],
    }


def test_diving48_lists(made):
    made.touch("a/image_00001.jpg", "b.mp4")
    made.write(train__csv="a,47\n", test__csv="b.mp4,0\n")
    assert made.found(made.read("diving48")) == {"train": [("a", (47,))], "val": [("b.mp4", (0,))]}

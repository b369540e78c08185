def test_files_of_one_name_are_told_apart_by_folder(made):
    made.touch("train/run/1.mp4", "train/walk/1.mp4", "val/walk/1.mp4", "walk/2/img_1.jpg", "walk/2.webm")
    made.write(
        category__txt="\n".join(["run", "walk", *made.names(25)]),
        train__txt="x/walk/1 9 1\n1 9 0\nwalk/2.mp4 9 1",
        val__txt="1 9 1",
    )
    assert made.found(made.read("jester")) == {
        "train": [("train/walk/1.mp4", (1,)), ("train/run/1.mp4", (0,)), ("walk/2.webm", (1,))],
        "val": [("val/walk/1.mp4", (1,))],
    }


def test_a_video_of_another_folder_is_not_taken_for_a_missing_one(made):
    made.touch("run/1.mp4", "2.mp4")
    made.write(
        category__txt="\n".join(["run", "walk", *made.names(25)]), train__txt="walk/1.mp4 9 1\nwalk/2.mp4 9 1"
    )
    table = made.read("jester")
    assert made.found(table) == {"train": [("2.mp4", (1,))]}
    assert table.missing == {"train": ["walk/1.mp4"]}

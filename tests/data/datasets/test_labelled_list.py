import shutil

import pytest

from adafocus_jax.data.datasets.annotations import read_splits
from adafocus_jax.data.datasets.classes import ClassFile
from adafocus_jax.data.datasets.labelled_list import read_list, read_lists_of
from adafocus_jax.errors import UserError

CLASSES = ("jump", "ride a bike", "run")


@pytest.fixture
def videos(tmp_path):
    root = tmp_path / "videos"
    for name in ("a.mp4", "sub/b b.mp4", "c,c.webm", "d (31).mp4", "frames 1/00001.jpg"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def listed(tmp_path, text, root, classes=CLASSES, **options):
    (tmp_path / "list.txt").write_text(text, encoding="utf-8")
    if options or isinstance(classes, ClassFile):
        (entries,) = read_lists_of({tmp_path / "list.txt": root}, classes, **options)
    else:
        entries = read_list(tmp_path / "list.txt", root, classes)
    return [(entry.name, entry.labels) for entry in entries]


def one_line(error: pytest.ExceptionInfo) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


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


def test_links_within_the_folder_are_the_owners_choice(tmp_path, videos):
    shutil.copy(videos / "a.mp4", tmp_path / "elsewhere.mp4")
    (videos / "link.mp4").symlink_to(tmp_path / "elsewhere.mp4")
    assert listed(tmp_path, "link.mp4,0", videos) == [("link.mp4", (0,))]


@pytest.mark.parametrize("delimiter", [" ", ",", "\t", ";"])
def test_names_with_spaces_and_delimiters_need_no_quotes(tmp_path, videos, delimiter):
    text = "\n".join(
        delimiter.join(row)
        for row in (("d (31).mp4", "2"), ("c,c.webm", "ride a bike"), ("sub/b b.mp4", "0"))
    )
    classes = ("jump", "ride a bike", "run", "0", "2")
    assert listed(tmp_path, text, videos, classes) == [
        ("d (31).mp4", (4,)),
        ("c,c.webm", (1,)),
        ("sub/b b.mp4", (3,)),
    ]
    if delimiter != " ":  # else nothing tells whether the 1 belongs to the name
        assert listed(tmp_path, f"frames 1{delimiter}2", videos) == [("frames 1", (2,))]


FRAMES = "a.mp4 120 2\nd (31).mp4 2 0"


@pytest.mark.parametrize(
    "text",
    [FRAMES, FRAMES.replace(" 2\n", " run\n").replace("2 0", "2 jump"), f"path num_frames label\n{FRAMES}",
     "video,frames,class\na.mp4,1,2\nd (31).mp4,2,0", "label,path,n_frames\n2,a.mp4,1\n0,d (31).mp4,2"],
    ids=["a count above the classes", "names", "header", "header alone tells", "another order"],
)  # fmt: skip
def test_a_number_of_frames_is_no_label(tmp_path, videos, text):
    assert listed(tmp_path, text, videos) == [("a.mp4", (2,)), ("d (31).mp4", (0,))]


def test_what_may_be_either_is_refused_until_it_is_said(tmp_path, videos):
    text = "a.mp4 1 2\nd (31).mp4 2 0"
    with pytest.raises(
        UserError, match=r"line 1: 1 may be a number of frames or a label.* columns=path,frames,label or"
    ):
        listed(tmp_path, text, videos)
    said = ClassFile(CLASSES)
    frames, labels = ("path", "frames", "label"), ("path", "label", "label")
    assert listed(tmp_path, text, videos, said, columns=frames) == [("a.mp4", (2,)), ("d (31).mp4", (0,))]
    assert listed(tmp_path, text, videos, said, columns=labels) == [("a.mp4", (1, 2)), ("d (31).mp4", (2, 0))]
    # A video of no frames is none, and lines of two fields have no room for a number of frames.
    assert listed(tmp_path, "a.mp4 1 2\nd (31).mp4 0 1", videos) == [
        ("a.mp4", (1, 2)),
        ("d (31).mp4", (0, 1)),
    ]
    assert listed(tmp_path, "a.mp4 1 2\nd (31).mp4 2", videos) == [("a.mp4", (1, 2)), ("d (31).mp4", (2,))]


def test_columns_may_cut_segments_out(tmp_path, videos):
    columns = ("label", "-", "path", "start", "end")
    text = "2,x,a.mp4,1.5,4\n0,y,a.mp4,4,5"
    (tmp_path / "list.txt").write_text(text)
    (entries,) = read_lists_of({tmp_path / "list.txt": videos}, ClassFile(CLASSES), columns)
    assert [(e.name, e.labels, e.segment) for e in entries] == [
        ("a.mp4#1.50-4.00", (2,), (1.5, 4.0)),
        ("a.mp4#4.00-5.00", (0,), (4.0, 5.0)),
    ]


@pytest.mark.parametrize(
    "columns", [("path",), ("label",), ("path", "size", "label"), ("path", "start", "label")]
)
def test_columns_that_do_not_fit(tmp_path, videos, columns):
    with pytest.raises(UserError, match=f"columns={','.join(columns)} is not valid: give one path"):
        listed(tmp_path, "a.mp4 1 2", videos, ClassFile(CLASSES), columns=columns)


@pytest.mark.parametrize(
    ("train", "val", "labels"), [("1", "3", (0, 2)), ("1", "2", (0, 1)), ("0", "1", (0, 1))]
)
def test_lists_count_from_where_the_class_file_does(tmp_path, videos, train, val, labels):
    """As ``classInd.txt`` of UCF101; lists with a label 0 count from 0, as those made of it for other code do."""
    (tmp_path / "classInd.txt").write_text("1 jump\n2 ride a bike\n3 run\n")
    (tmp_path / "train.txt").write_text(f"a.mp4 {train}\n")
    (tmp_path / "val.txt").write_text(f"d (31).mp4 {val}\n")
    splits, classes = read_splits(
        tmp_path / "train.txt",
        val_src=tmp_path / "val.txt",
        videos=videos,
        classes_file=tmp_path / "classInd.txt",
    )
    assert classes == CLASSES
    assert tuple(splits[split][0].labels[0] for split in ("train", "val")) == labels


def test_a_label_before_the_first_number(tmp_path, videos):
    with pytest.raises(UserError, match="label '0' out of range: valid are the numbers 1…3, or"):
        listed(tmp_path, "a.mp4 0\nc,c.webm 3", videos, ClassFile(CLASSES, 1))

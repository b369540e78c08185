import contextlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adafocus_jax.data.datasets import DATASETS, read_dataset
from adafocus_jax.errors import UserError


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
        "mri": (None, "mAP", 1),
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


NAMES = [f"class {number:03d}" for number in range(27)]
JESTER = {"category__txt": "\n".join(NAMES)}


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
        ({"x-labels__csv": "a\nb", "x-train__csv": "1;a"}, ["has 2 classes", "Jester 27", "custom"]),
        (
            {"x-labels__csv": "\n".join(NAMES), "x-train__csv": "1;class 001\n2;klass 002"},
            ["x-train.csv, line 2", "'klass 002'", "did you mean 'class 002'"],
        ),
    ],
)
def test_annotations_that_do_not_fit(made, files, words):
    made.touch("1/00001.jpg", "2/00001.jpg", "a/twice.mp4", "b/twice.mp4")
    lists = any(name.endswith("txt") for name in files)
    with pytest.raises(UserError) as error:
        read_dataset("jester", made.videos, made.write(**files, **(JESTER if lists else {})))
    assert "\n" not in str(error.value)
    assert all(word in str(error.value) for word in words), error.value


def test_calls_that_do_not_fit(made):
    with pytest.raises(UserError, match="unknown data set 'imagenet': choose from activitynet"):
        read_dataset("imagenet", made.videos)
    with pytest.raises(UserError, match="jester has no option trim: it has none"):
        read_dataset("jester", made.videos, trim=True)
    with pytest.raises(UserError, match="activitynet has no option val_src: it has trim"):
        read_dataset("activitynet", made.videos, val_src="x", seed=1)
    with pytest.raises(UserError, match="needs its annotation files: give annotations=DIR with jester-v1"):
        read_dataset("jester", made.videos)
    with pytest.raises(UserError, match="no such folder of videos"):
        read_dataset("jester", made.videos / "no")
    with pytest.raises(UserError, match="no such folder or file of annotations"):
        made.read("jester")


@pytest.mark.parametrize("content", ["{", "[]", '{"database": 3}', '{"database": {"x": {"subset": "training"}}}',
    '{"database": {"x": {"subset": "tra", "annotations": []}}}'])  # fmt: skip
def test_broken_json(made, content):
    with pytest.raises(UserError, match=r"activity_net\.json"):
        read_dataset("activitynet", made.videos, made.write(activity_net__json=content))


OFFICIAL = (
    *("activity_net.json", "train.csv", "val.json", "train_ytid_list.txt", "x-labels.csv", "x-labels.json"),
    *("Diving48_vocab.json", "traintestsplit.txt", "FCVID_Label.txt", "classInd.txt", "train_split.txt"),
)
PIECES = st.sampled_from(
    [
        *(
            "{",
            "}",
            "[",
            "]",
            ":",
            ",",
            ";",
            '"',
            "\n",
            "\r\n",
            "\x00",
            "é",
            "1",
            "-1",
            "2.5",
            "../1",
            "train",
        ),
        *("null", "label,youtube_id,", "path,label,patient"),
        *('{"database": {"1": {', '"annotations": [', '"subset": "training"'),
    ]
)


@given(
    name=st.sampled_from(sorted(DATASETS)),
    files=st.dictionaries(st.sampled_from(OFFICIAL), st.lists(PIECES, max_size=12).map(" ".join), min_size=1),
)
@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_nonsense_is_the_users_mistake(made, name, files):
    made.touch("1/00001.jpg", "run/2.mp4")
    for file in made.write().iterdir():
        file.unlink()
    made.write(**files)
    with contextlib.suppress(UserError):
        made.read(name)

import pytest

ODD_NAMES = ['Pretending to say "no; never"', "Pushing something from left to right", "Schieben über, etwas"]


@pytest.mark.parametrize(("name", "count"), [("something_v1", 174), ("jester", 27)])
def test_semicolons(made, name, count):
    made.touch("1/00001.jpg", "2/00001.jpg", "30/00001.jpg")
    classes = [*made.names(count - 3), *ODD_NAMES]
    made.write(
        **{f"{name}-labels__csv": "\ufeff" + "\r\n".join(reversed(classes)) + "\r\n"},
        **{f"{name}-train__csv": f"1;{ODD_NAMES[0]}\r\n30;{ODD_NAMES[2]}\r\n4;class 001\r\n"},
        **{f"{name}-validation__csv": '2;"Pretending to say ""no; never"""\n'},
        **{f"{name}-test__csv": "77\n78\n"},
    )
    table = made.read(name)
    assert table.classes == tuple(sorted(classes))
    number = table.classes.index
    assert made.found(table) == {
        "train": [("1", (number(ODD_NAMES[0]),)), ("30", (number(ODD_NAMES[2]),))],
        "val": [("2", (number(ODD_NAMES[0]),))],
    }
    assert table.missing == {"train": ["4"]}


def test_something_v2(made):
    made.touch("20bn/78687.webm", "20bn/5/000001.jpg", "20bn/5.jpg")
    classes = [*made.names(173), "Holding something next to something"]
    template = {
        "label": "holding potato next to vicks",
        "template": "Holding [something] next to [something]",
    }
    made.write(
        **{"something-something-v2-labels__json": {n: str(i) for i, n in reversed(list(enumerate(classes)))}},
        **{"something-something-v2-train__json": [{"id": "78687", **template, "placeholders": ["potato"]}]},
        **{"something-something-v2-validation__json": [{"id": "5", **template}]},
        **{"something-something-v2-test__json": [{"id": "6"}]},
    )
    table = made.read("something_v2")
    assert table.classes == tuple(classes)
    assert made.found(table) == {"train": [("20bn/78687.webm", (173,))], "val": [("20bn/5", (173,))]}


@pytest.mark.parametrize(("name", "count"), [("something_v1", 174), ("something_v2", 174), ("jester", 27)])
def test_twentybn_lists(made, name, count):
    made.touch("1/00001.jpg", "2/00001.jpg")
    made.write(
        category__txt="\n".join(made.names(count)),
        train_videofolder__txt="something/v1/img/1 37 4\n",
        val_videofolder__txt="2 12 26",
    )
    table = made.read(name)
    assert made.found(table) == {"train": [("1", (4,))], "val": [("2", (26,))]}

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adafocus_jax.data.datasets.list_files import read_lines, read_rows
from adafocus_jax.errors import UserError

NAME = "caf\u00e9 \u2028 \x85 \x0c \u4e2d.mp4"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["Unix", "Windows", "old Mac"])
@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"], ids=lambda name: name
)
def test_lists_of_any_encoding(tmp_path, encoding, end):
    (tmp_path / "list").write_bytes(f"{NAME},1{end}run.mp4,2{end}".encode(encoding))
    assert read_lines(tmp_path / "list") == [f"{NAME},1", "run.mp4,2"]
    assert read_rows(tmp_path / "list") == [(1, [NAME, "1"]), (2, ["run.mp4", "2"])]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "run.mp4,1\ncaf\u00e9.mp4,2".encode("latin-1"),
            r"not UTF-8 or UTF-16 text \(byte 0xe9 in line 2\): save it",
        ),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "not UTF-8"),
        (b"run\0.mp4,1", "has zero bytes"),
    ],
)
def test_files_that_are_no_text(tmp_path, content, message):
    (tmp_path / "list").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_lines(tmp_path / "list")


def test_no_such_file(tmp_path):
    with pytest.raises(UserError, match=r"does not open \(No such file"):
        read_lines(tmp_path / "list")


NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters='"'), min_size=1).map(
    lambda name: f"v{name}.mp4"
)


@given(
    rows=st.lists(st.tuples(NAMES, st.integers(1, 999), st.integers(0, 9)), min_size=1),
    delimiter=st.sampled_from("\t;, "),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_names_come_back_whatever_they_hold(tmp_path, rows, delimiter):
    lines = [delimiter.join(map(str, row)) for row in rows]
    (tmp_path / "list").write_text("\n".join(lines), encoding="utf-8")
    assert [fields for _, fields in read_rows(tmp_path / "list")] == [[*map(str, row)] for row in rows]

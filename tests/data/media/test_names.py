import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adafocus_jax.data.media.names import StoredNames, is_hidden, output_stem


def test_names_for_output_are_short_and_differ(tmp_path):
    long = [f"{'x' * 245}{end}" for end in "ab"]
    stems = [
        output_stem(name)
        for name in (*long, "caf\udce9", "caf\udcea", "\u4e2d" * 100, "run/clip", "run_clip")
    ]
    assert len({*stems}) == len(stems)
    for stem in stems:
        (tmp_path / f".{stem}-overlay.mp4.0123456789abcdef.partial").touch()
    assert output_stem("caf\u00e9 [id]") == "caf\u00e9 [id]"


@given(st.text(min_size=1))
def test_any_name_makes_a_file_name(name):
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return
    stem = output_stem(name)
    assert 0 < len(stem.encode()) <= 200
    assert "/" not in stem
    assert "\0" not in stem


@pytest.mark.parametrize("name", ["__MACOSX", ".thumbs", "Thumbs.db", "@eaDir", "$RECYCLE.BIN"])
def test_names_of_systems(name):
    assert is_hidden(name)


def test_stored_names(tmp_path):
    (tmp_path / "e\u0301").mkdir()
    (tmp_path / "e\u0301" / "1.mp4").touch()
    assert StoredNames(tmp_path).find("\u00e9/1.mp4") == "e\u0301/1.mp4"
    assert StoredNames(tmp_path).find("\u00e9/2.mp4") is None
    assert StoredNames(tmp_path).find("1/2/3.mp4") is None

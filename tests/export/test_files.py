"""An export whose files are not those that were written is refused."""

import json

import pytest

from adafocus_jax.errors import UserError
from adafocus_jax.export.files import MANIFEST, read_manifest, require_new, write_manifest


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "weights").write_bytes(b"123")
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "program").write_bytes(b"456")
    write_manifest(tmp_path, {"format": "test", "values": (1, 2)})
    return tmp_path


def test_what_was_written_is_read(folder):
    manifest = read_manifest(folder)
    assert (manifest["format"], manifest["values"], len(manifest["sha256"])) == ("test", [1, 2], 2)
    with pytest.raises(UserError, match="exists: remove it"):
        require_new(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "weights").write_bytes(b"124"), "weights has changed"),
        (lambda folder: (folder / "cpu" / "program").unlink(), "program is missing"),
        (lambda folder: (folder / "cpu" / "new").touch(), "new is not part of the export"),
        (lambda folder: (folder / MANIFEST).unlink(), "no manifest.json in"),
        (lambda folder: (folder / MANIFEST).write_text("{"), "is damaged"),
        (lambda folder: later(folder / MANIFEST), "of format version 99"),
    ],
    ids=["changed", "missing", "foreign", "no manifest", "damaged", "later"],
)
def test_other_files_are_refused(folder, change, message):
    change(folder)
    with pytest.raises(UserError, match=message):
        read_manifest(folder)


def later(manifest):
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "format_version": 99}))

"""What each start of a run tells, and what is not the same at another one."""

import json

import jax

from adafocus_jax.train.starts import describe_start, differences, read_starts, write_start


def test_starts_are_numbered_and_none_is_overwritten(tmp_path):
    (tmp_path / "starts").mkdir()
    (tmp_path / "starts" / "0006.json").write_text("{cut")
    assert [write_start(tmp_path, {"step": step}).name for step in (0, 5)] == ["0007.json", "0008.json"]
    assert read_starts(tmp_path) == [{"step": 0}, {"step": 5}]


def test_what_differs_is_a_line_each(tmp_path, monkeypatch):
    here = describe_start() | {"data": {"videos": 7}}
    assert here["devices"] == {"platform": "cpu", "kind": "cpu", "count": 4, "processes": 1}
    assert here["versions"]["jax"] == jax.__version__
    assert "device_count=4" in here["environment"]["XLA_FLAGS"]
    write_start(tmp_path, here)
    assert differences(tmp_path, json.loads(json.dumps({**here, "host": "b", "time": "", "step": 9}))) == []
    other = {**here, "code": {**here["code"], "commit": "abc", "diff": "+x"}, "data": {"videos": 8}}
    changed = {"versions": {**here["versions"], "jax": "0"}, "devices": {**here["devices"], "count": 8}}
    lines = differences(tmp_path, other | changed)
    assert [line.split(" is ")[0] for line in lines] == [
        *(["code.commit"] if here["code"]["commit"] != "abc" else []),
        "code.uncommitted",
        "data.videos",
        "devices.count",
        "versions.jax",
    ]
    assert "devices.count is 4 there, 8 here" in lines


def test_a_run_of_an_earlier_version_tells_nothing(tmp_path):
    (line,) = differences(tmp_path, describe_start())
    assert "does not tell what it ran with" in line

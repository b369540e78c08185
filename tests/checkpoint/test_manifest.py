"""The small files of a run and their checksums."""

import logging
import shutil
import subprocess

import numpy as np
import pytest

from adafocus_jax.checkpoint import Checkpoints, load_checkpoint, manifest
from adafocus_jax.checkpoint.manifest import read_listed, write_listed
from adafocus_jax.early_exit import ExitPolicy
from adafocus_jax.errors import UserError
from adafocus_jax.evaluate.exits import POLICY_FILE, store_policies, stored_policies

CONFIG = {"seed": 3, "classes": ["a", "b"]}
STATE = {"step": np.asarray(1), "params": {"w": np.ones(3, np.float32)}, "batch_stats": {}}
POLICY = ExitPolicy("confidence", (0.75, -1e8), 0.5, "val", 10, 0.5)


@pytest.fixture
def folder(tmp_path):
    with Checkpoints(tmp_path / "checkpoints", CONFIG) as checkpoints:
        for step, score in ((1, 90.0), (2, 70.0)):
            checkpoints.save(step, STATE)
            checkpoints.record(step, {"top1": score}, score=score)
    store_policies(tmp_path / "checkpoints", [POLICY])
    return tmp_path / "checkpoints"


def edit(path, old, new):
    """An edit by hand, valid JSON still."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_an_edited_config_is_named_wherever_the_run_is_opened(folder):
    edit(folder / "config.json", '"seed": 3', '"seed": 4')
    for open_run in (load_checkpoint, lambda path: Checkpoints(path, CONFIG)):
        with pytest.raises(UserError, match=r"config.json differs from what was written.*convert --set"):
            open_run(folder)


def test_so_are_policies_and_metrics(folder, caplog):
    edit(folder / POLICY_FILE, "0.75", "0.25")
    with pytest.raises(UserError, match=r"early_exit.json differs .* evaluate --early-exit makes it anew"):
        stored_policies(folder)
    store_policies(folder, [POLICY])
    assert stored_policies(folder) == (POLICY,)
    edit(folder / "1" / "metrics" / "metrics", "90.0", "60.0")
    assert load_checkpoint(folder, "best").step == 2
    assert "1/metrics/metrics differs from what was written" in caplog.text
    Checkpoints(folder, CONFIG).close()
    assert len(list(folder.glob("damaged-1-*"))) == 1


def test_a_file_that_was_there_is_missed(folder):
    (folder / POLICY_FILE).unlink()
    with pytest.raises(UserError, match=r"early_exit.json is missing"):
        stored_policies(folder)


def test_sha256sum_reads_the_list_and_an_edit_on_purpose_has_a_way(folder):
    edit(folder / "config.json", '"seed": 3', '"seed": 4')
    command = f"sha256sum config.json {POLICY_FILE} > SHA256SUMS && sha256sum --check --strict SHA256SUMS"
    subprocess.run(command, shell=True, cwd=folder, check=True, capture_output=True)
    assert load_checkpoint(folder).config["seed"] == 4


def test_runs_of_earlier_versions_open_with_one_line_and_get_checksums_when_resumed(folder, caplog):
    for listing in folder.rglob("SHA256SUMS"):
        listing.unlink()
    caplog.set_level(logging.INFO, "adafocus_jax")
    assert load_checkpoint(folder).step == 1
    assert stored_policies(folder) == (POLICY,)
    assert [message.partition(" holds ")[2] for message in caplog.messages] == [
        "files without checksums, as earlier versions wrote them: taken as they are"
    ]
    Checkpoints(folder, CONFIG).close()
    edit(folder / "config.json", '"seed": 3', '"seed": 4')
    with pytest.raises(UserError, match="differs"):
        load_checkpoint(folder)


def test_a_list_that_does_not_read_is_named(folder):
    (folder / "SHA256SUMS").write_text("x\n")
    with pytest.raises(UserError, match=r"SHA256SUMS does not read"):
        load_checkpoint(folder)


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize("writes", [0, 1, 2, 3])
def test_killed_at_any_moment_the_file_is_the_old_or_the_new(tmp_path, monkeypatch, writes, listed):
    path = tmp_path / "file"
    (write_listed if listed else lambda path, text: path.write_text(text))(path, "old")
    left = iter(range(writes))

    def write_or_die(*words):
        next(left)
        write_text(*words)

    write_text = manifest.write_text
    monkeypatch.setattr(manifest, "write_text", write_or_die)
    if writes < 3:
        with pytest.raises(StopIteration):
            write_listed(path, "new")
    else:
        write_listed(path, "new")
    assert read_listed(path) == ("old" if writes < 2 else "new")


def test_a_file_that_another_process_is_just_writing_is_read_again(tmp_path, monkeypatch):
    """Its new content is there, and the list that was read before is of the old one."""
    path = tmp_path / "file"
    write_listed(path, "old")
    shutil.copy(tmp_path / "SHA256SUMS", tmp_path / "before")
    write_listed(path, "new")
    now = (tmp_path / "SHA256SUMS").read_text()
    shutil.copy(tmp_path / "before", tmp_path / "SHA256SUMS")
    monkeypatch.setattr(manifest.time, "sleep", lambda _: (tmp_path / "SHA256SUMS").write_text(now))
    assert read_listed(path) == "new"

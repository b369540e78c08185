"""Which code runs: told by git in a checkout, and by the launcher in a copy without git."""

import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from adafocus_jax.errors import UserError
from adafocus_jax.launch.bundle import make_bundle
from adafocus_jax.provenance import PACKED, describe_code, describe_commit


def git(folder, *words, **options) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "core.autocrlf=false"]
    command = ["git", *who, "-C", str(folder), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True, **options).stdout


@pytest.fixture
def package(tmp_path) -> Path:
    """A package in a checkout, one commit old, with changes on top: a line, a file less, a new one of bytes."""
    package = tmp_path / "checkout" / "adafocus_jax"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("x = 1\n")
    (package / "gone.py").write_text("y = 1\n")
    git(package.parent, "init", "--quiet")
    git(package.parent, "add", ".")
    git(package.parent, "commit", "--quiet", "--message", "first")
    (package / "__init__.py").write_text("x = 2\n")
    (package / "gone.py").unlink()
    (package / "new ä.bin").write_bytes(bytes(range(256)))
    (package.parent / "notes.txt").write_text("not the package's")
    return package


def test_commit_and_diff_give_the_code_again(package, tmp_path):
    code = describe_code(package)
    again = tmp_path / "again"
    git(tmp_path, "clone", "--quiet", str(package.parent), str(again))
    git(again, "checkout", "--quiet", code["commit"])
    git(again, "apply", "-", input=code["diff"])
    assert describe_code(again / "adafocus_jax") == code
    assert (again / "adafocus_jax" / "new ä.bin").read_bytes() == bytes(range(256))
    assert not (again / "notes.txt").exists()
    (again / "adafocus_jax" / "__init__.py").write_text("x = 3\n")
    assert describe_code(again / "adafocus_jax")["sha256"] != code["sha256"]


def test_a_packed_copy_tells_what_the_checkout_told(package, tmp_path):
    bundle = make_bundle(package.parent)
    with tarfile.open(fileobj=io.BytesIO(bundle.data)) as tar:
        tar.extractall(tmp_path / "copy", filter="data")
    copy = tmp_path / "copy" / "adafocus_jax"
    assert describe_code(copy) == describe_code(package)
    assert bundle.commit == describe_commit(copy)["commit"] + "+diff"
    assert make_bundle(package.parent).digest == bundle.digest
    git(tmp_path / "copy", "init", "--quiet")  # a repository that knows nothing of the package
    assert describe_commit(copy) == describe_commit(package)
    (copy / PACKED).unlink()
    assert describe_commit(copy) == {"commit": "", "diff": ""}


def test_a_diff_out_of_all_bounds_is_not_kept(package, monkeypatch):
    monkeypatch.setattr("adafocus_jax.provenance.MAX_DIFF_BYTES", 100)
    assert describe_commit(package)["diff"].startswith("more than 100 bytes, not kept; sha256 ")


def test_a_git_that_does_not_answer_is_named(tmp_path, monkeypatch):
    (tmp_path / "git").write_text("#!/bin/sh\nexec sleep 60\n")
    (tmp_path / "git").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr("adafocus_jax.launch.bundle._GIT_SEC", 0.1)
    with pytest.raises(UserError, match="git ls-files does not answer in 0 s: see whether"):
        make_bundle(tmp_path)

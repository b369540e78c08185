"""Records that are prepared straight into a bucket: by one machine or several, through kills and faults."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import ClassVar

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem

from adafocus_jax.data.prepare.finish import finalize
from adafocus_jax.data.prepare.prepare import prepare
from adafocus_jax.data.prepare.verify import inspect_records
from adafocus_jax.errors import UserError

ROOT = Path(__file__).parents[3]
SHARD = "*array_record-?????-of-?????"
SMALL = {"size": 20, "workers": 0, "shards": 4, "val_fraction": 0.25}


class NoCredentialsError(Exception):
    """As botocore has it."""


class Bucket(LocalFileSystem):
    """A bucket on the local disk that notes what is sent there, and fails on order."""

    protocol = "bucket"
    cachable = False
    sent: ClassVar[list[str]] = []
    most_held: ClassVar[int] = 0
    """Shards on the local disk at a time."""
    trouble: ClassVar[dict[str, Exception | str]] = {}
    """What becomes of files whose name contains the key."""

    def put_file(self, lpath, rpath, **kwargs):
        Bucket.most_held = max(Bucket.most_held, len(list(Path(lpath).parent.glob(SHARD))))
        found = [trouble for part, trouble in self.trouble.items() if part in os.path.basename(rpath)]
        if found and found[0] != "cut":
            raise found[0]
        self.sent.append(os.path.basename(rpath))
        target = Path(self._strip_protocol(rpath))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(Path(lpath).read_bytes()[: -1 if found else None])


@pytest.fixture
def bucket(monkeypatch, tmp_path) -> Path:
    """The folder behind ``bucket://``; machines are made by ``machine``."""
    monkeypatch.setattr("adafocus_jax.data.records.storage._WAITS_SEC", (0.0, 0.0))
    for name, value in {"sent": [], "most_held": 0, "trouble": {}}.items():
        monkeypatch.setattr(Bucket, name, value)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "machine"))
    fsspec.register_implementation("bucket", Bucket, clobber=True)
    return tmp_path / "bucket" / "set"


def contents(out: Path) -> dict[str, bytes]:
    files = (path for path in out.rglob("*") if path.is_file())
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in files if path.suffix != ".lock"}


def is_shard(name: str) -> bool:
    return "array_record" in name and not name.endswith(".json")


@pytest.fixture(scope="module")
def whole(video_folder, tmp_path_factory) -> dict[str, bytes]:
    """What is prepared into a local folder."""
    out = tmp_path_factory.mktemp("whole")
    prepare(video_folder, out, **SMALL)
    return contents(out)


def test_a_bucket_gets_what_a_folder_gets_shard_by_shard(video_folder, whole, bucket, tmp_path):
    summary = prepare(video_folder, f"bucket://{bucket}/", **SMALL)
    assert (summary.directory, summary.complete) == (f"bucket://{bucket}", True)
    assert contents(bucket) == whole
    assert Bucket.most_held == 1, "a shard leaves the local disk as soon as it is there"
    assert not contents(tmp_path / "machine")
    assert Bucket.sent[0] == "plan.json"
    assert Bucket.sent[-2:] == ["SHA256SUMS", "dataset_info.json"]
    for name in filter(is_shard, Bucket.sent):
        assert Bucket.sent.index(f"{name}.json") == Bucket.sent.index(name) + 1
    assert inspect_records(f"bucket://{bucket}").damage == []
    Bucket.sent.clear()
    assert prepare(video_folder, f"bucket://{bucket}", **SMALL).num_videos == summary.num_videos
    assert Bucket.sent == [], "what is there is not done again"


def test_machines_write_to_one_bucket(video_folder, whole, bucket, tmp_path, monkeypatch):
    for index in range(3):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / f"machine{index}"))
        summary = prepare(video_folder, f"bucket://{bucket}", **SMALL, part=(index, 3))
        assert not summary.complete
        assert not list((tmp_path / f"machine{index}").rglob(SHARD))
    assert len(list(filter(is_shard, Bucket.sent))) == 8, "each shard is made by one of them"
    with pytest.raises(UserError, match=f"bucket://{bucket} was started with size=20, now 24"):
        prepare(video_folder, f"bucket://{bucket}", **(SMALL | {"size": 24}), part=(0, 3))
    assert finalize(f"bucket://{bucket}").num_videos == {"train": 11, "val": 4}
    assert contents(bucket) == whole

    shard = next(bucket.glob("*array_record*"))
    data = shard.read_bytes()
    shard.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(UserError, match=f"the shard bucket://{shard} is damaged, as its checksum differs"):
        finalize(f"bucket://{bucket}")
    shard.write_bytes(data[:-1])
    with pytest.raises(UserError, match=f"1 of 8 shards are missing, .* the first is bucket://{shard}"):
        finalize(f"bucket://{bucket}")
    prepare(video_folder, f"bucket://{bucket}", **SMALL)
    assert contents(bucket) == whole


@pytest.mark.parametrize(
    ("trouble", "message"),
    [
        (TimeoutError("asleep"), r"sent 3 times, does not arrive: TimeoutError: asleep; check the network"),
        ("cut", r"sent 3 times, has another size than what was sent"),
        (OSError(errno.ENOSPC, "full"), r"no room for bucket://.*00002-of-00004: make some there"),
        (PermissionError("Forbidden"), r"00002-of-00004 may not be read or written: Forbidden; check the"),
        (NoCredentialsError("none"), r"00002-of-00004 needs credentials \(none\): for S3 set"),
        (FileNotFoundError("No such bucket"), r"is missing: No such bucket; check the address"),
    ],
)
def test_a_bucket_that_does_not_take_a_shard(video_folder, whole, bucket, tmp_path, trouble, message):
    Bucket.trouble["train.array_record-00002"] = trouble
    with pytest.raises(UserError, match=message):
        prepare(video_folder, f"bucket://{bucket}", **SMALL)
    (held,) = (tmp_path / "machine").rglob(SHARD)
    before = list(Bucket.sent)
    Bucket.trouble.clear()
    Bucket.sent.clear()
    prepare(video_folder, f"bucket://{bucket}", **SMALL)
    done = set(filter(is_shard, before)) - {held.name}
    assert done
    assert not done & set(Bucket.sent), "what had arrived is not sent again"
    assert contents(bucket) == whole


def test_other_files_in_the_bucket(video_folder, bucket):
    bucket.mkdir(parents=True)
    (bucket / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match=r"out=bucket://.* holds other files: give an empty or new folder"):
        prepare(video_folder, f"bucket://{bucket}", **SMALL)
    with pytest.raises(
        UserError, match=r"nothing was prepared in bucket://.*/set: there is no bucket://.*plan"
    ):
        finalize(f"bucket://{bucket}")


def test_a_killed_run_resumes_on_another_machine(video_folder, whole, tmp_path):
    """Real processes and workers; ``file://`` is the bucket."""
    bucket = tmp_path / "bucket"

    def start(machine: str) -> subprocess.Popen:
        flags = ["--size", "20", "--shards", "4", "--val-fraction", "0.25", "--workers", "1"]
        command = [
            sys.executable,
            "-m",
            "adafocus_jax",
            "prepare",
            str(video_folder),
            f"file://{bucket}",
            *flags,
        ]
        env = os.environ | {"XDG_CACHE_HOME": str(tmp_path / machine)}
        return subprocess.Popen(command, cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True)

    def arrived() -> dict[str, int]:
        receipts = (bucket / ".prepare").glob("*array_record*.json")
        shards = [bucket / json.loads(receipt.read_text())["shard"] for receipt in receipts]
        return {shard.name: shard.stat().st_mtime_ns for shard in shards}

    first = start("one")
    while not arrived() and first.poll() is None:
        time.sleep(0.001)
    first.send_signal(signal.SIGSTOP)
    before = arrived()
    first.kill()
    first.communicate()
    second = start("two")
    assert second.communicate()[1] is not None
    assert second.returncode == 0
    assert contents(bucket) == whole
    assert before.items() <= arrived().items(), "what had arrived is not done again"

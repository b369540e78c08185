"""Records behind an address: the same batches, a cache of bounded size, and faults of the network by name."""

import logging
import shutil
import threading
import time
from pathlib import Path

import fsspec
import numpy as np
import pytest

from adafocus_jax.data.batches.clips import ClipSpec
from adafocus_jax.data.batches.pipeline import eval_batches, train_batches
from adafocus_jax.data.batches.sources import open_data
from adafocus_jax.data.prepare.prepare import prepare
from adafocus_jax.data.prepare.verify import inspect_records
from adafocus_jax.data.records import shard_cache
from adafocus_jax.data.records.remote import open_remote
from adafocus_jax.data.records.schema import encode_frame, encode_record, record_features, shard_name
from adafocus_jax.data.records.shard_cache import ShardCache
from adafocus_jax.data.records.storage import CacheOptions, fetch_file, file_checksum
from adafocus_jax.data.records.writer import ShardWriter, write_metadata
from adafocus_jax.errors import UserError
from adafocus_jax.io import partial_path

SPEC = ClipSpec(num_candidates=2, image_size=8, resize=10)
SHARDS, VIDEOS = 7, 15


@pytest.fixture(scope="module")
def bucket(video_folder, tmp_path_factory) -> Path:
    """15 videos in 7 shards."""
    out = tmp_path_factory.mktemp("bucket") / "set"
    prepare(video_folder, out, size=20, fps=None, workers=0, shards=SHARDS)
    return out


def shards(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*array_record-?????-of-?????"))


def gigabytes(bucket: Path, count: float) -> float:
    """The size of so many shards."""
    return count * sum(path.stat().st_size for path in shards(bucket)) / SHARDS / 1e9


def train(source, steps, *, start_step=0, **options):
    options = {"batch_size": 5, "seed": 3, "num_threads": 0, **options}
    return list(train_batches(source, SPEC, num_steps=steps, start_step=start_step, **options))


def assert_same(batches, expected):
    for batch, other in zip(batches, expected, strict=True):
        for key, value in other.items():
            np.testing.assert_array_equal(batch[key], value, err_msg=key)


@pytest.mark.parametrize("reading", [{"num_workers": 2, "num_threads": 1}, {"num_threads": 2}])
def test_batches_are_those_of_local_records(reading, bucket, tmp_path):
    local = open_data(bucket, "train")
    remote = open_data(f"file://{bucket}/", "train", cache=CacheOptions(str(tmp_path)))
    assert (remote.classes, remote.max_labels, remote.traits) == (
        local.classes,
        local.max_labels,
        local.traits,
    )
    assert not shards(tmp_path), "opening fetches the metadata alone"
    assert_same(train(remote, 4, **reading), train(local, 4))
    assert [path.name for path in shards(tmp_path)] == [path.name for path in shards(bucket)]
    assert not list(tmp_path.rglob("*partial"))


def test_metadata_that_were_damaged_in_the_cache_are_fetched_anew(bucket, tmp_path):
    cache = CacheOptions(str(tmp_path))
    classes = open_data(f"file://{bucket}", "train", cache=cache).classes
    (labels,) = tmp_path.rglob("labels.labels.txt")
    labels.write_text("")
    assert open_data(f"file://{bucket}", "train", cache=cache).classes == classes


def test_evaluation_and_slices(bucket, tmp_path):
    cache = CacheOptions(str(tmp_path))
    for split in ("train", "train[20%:60%]"):
        remote, local = open_data(f"file://{bucket}", split, cache=cache), open_data(bucket, split)
        assert_same(
            *(list(eval_batches(s, SPEC, batch_size=4, num_threads=0)) for s in (remote, local)),
        )
    with pytest.raises(UserError, match=r"no split 'dev' in file://.*/set: there are train"):
        open_data(f"file://{bucket}", "dev", cache=cache)


def test_what_does_not_fit_is_shuffled_in_windows_whose_order_knows_seed_and_step_alone(
    bucket, storage, tmp_path, caplog
):
    caplog.set_level(logging.INFO, "adafocus_jax")
    room = gigabytes(bucket, 4.6)
    caches = [CacheOptions(str(tmp_path / str(number)), room) for number in range(3)]
    first, second, third = (open_remote(f"storage://{bucket}", "train", cache) for cache in caches)
    assert "so up to 2 of 7 shards at a time are shuffled and kept" in caplog.text
    whole = train(first, 6)
    assert 2 <= len(shards(tmp_path / "0")) <= 5
    assert sum(path.stat().st_size for path in shards(tmp_path / "0")) <= room * 1e9
    for epoch in (whole[:3], whole[3:]):
        assert sorted(np.concatenate([batch["index"] for batch in epoch])) == list(range(VIDEOS))
    assert_same(train(second, 6, start_step=2, num_threads=2), whole[2:])
    halves = [train(third, 2, process_index=i, process_count=5) for i in range(5)]
    assert [int(half[1]["index"][0]) for half in halves] == whole[1]["index"].tolist()
    assert max(storage.fetched.values()) > 3, "shards came again in the second epoch"


@pytest.fixture(scope="module")
def uneven(tmp_path_factory) -> Path:
    """8 shards of 3 videos for training, 5 shards of one video for validation; each video takes 0.3 MB."""
    out = tmp_path_factory.mktemp("uneven")
    (out / ".prepare").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (320, 320, 3), np.uint8)
    record = encode_record(record_features(("a",)), [encode_frame(noise, 95)] * 2, [0], "v.mp4", 1.0)
    lengths = {"train": [3] * 8, "val": [1] * 5}
    for split, counts in lengths.items():
        for number, count in enumerate(counts):
            with ShardWriter(out / shard_name(split, number, len(counts))) as writer:
                for _ in range(count):
                    writer.write(record)
    sums = {path.name: file_checksum(path) for path in shards(out)}
    num_bytes = {
        split: sum(path.stat().st_size for path in shards(out) if split in path.name) for split in lengths
    }
    write_metadata(out, ("a",), lengths, num_bytes, 1, checksums=sums)
    return out


@pytest.mark.parametrize("batch_size", [1, 4])
def test_every_shard_is_fetched_once_an_epoch(batch_size, uneven, storage, tmp_path, caplog):
    """By the mean over both splits, two windows would seem to fit that do not."""
    caplog.set_level(logging.INFO, "adafocus_jax")
    sizes = {
        split: [p.stat().st_size for p in shards(uneven) if split in p.name] for split in ("train", "val")
    }
    room = 5.1 * max(sizes["train"])
    cache = CacheOptions(str(tmp_path / "cache"), room / 1e9)
    train_source, val_source = (
        open_remote(f"storage://{uneven}", split, cache) for split in ("train", "val")
    )
    total = f"split train: {sum(sizes['train']) / 1e9:.3g} GB do not fit in data.cache_gb"
    assert total in caplog.text
    assert "so up to 2 of 8 shards at a time" in caplog.text
    steps = 3 * len(train_source) // batch_size
    options = {"batch_size": batch_size, "seed": 1, "num_steps": steps, "num_threads": 1}
    most = 0
    for step, _ in enumerate(train_batches(train_source, SPEC, **options), 1):
        held = [path.name for path in shards(tmp_path / "cache")]
        most = max(most, sum((uneven / name).stat().st_size for name in held))
        if step * batch_size % len(train_source) < batch_size:
            assert len(list(eval_batches(val_source, SPEC, batch_size=4, num_threads=1))) == 2
    counts = {split: sum(n for name, n in storage.fetched.items() if split in name) for split in sizes}
    assert 8 < counts["train"] <= 24
    assert counts["val"] <= 15
    assert most <= room + 4 * max(sizes["train"]), "those that are just being fetched come on top"


def test_shards_come_ahead_of_those_who_read_them(bucket, storage, tmp_path):
    source = open_remote(f"storage://{bucket}", "train", CacheOptions(str(tmp_path)))
    batches = train_batches(source, SPEC, batch_size=1, seed=0, num_steps=15, num_threads=0)
    next(batches)
    end = time.monotonic() + 20
    while len(shards(tmp_path)) < SHARDS:
        assert time.monotonic() < end, "only what was read has come"
        time.sleep(0.01)
    assert len(list(batches)) == 14
    assert all(count == 1 for name, count in storage.fetched.items() if "array_record" in name)


@pytest.mark.parametrize("trouble", ["timeout", "flip"])
def test_a_network_that_recovers_goes_unnoticed_and_one_that_does_not_is_named(
    trouble, bucket, storage, tmp_path
):
    url = f"storage://{bucket}"
    source = open_remote(url, "train", CacheOptions(str(tmp_path)))
    storage.trouble[:] = [trouble] * 3
    assert source[0].frames == open_data(bucket, "train")[0].frames
    storage.trouble[:] = [trouble] * 100
    reason = {
        "timeout": "does not come: TimeoutError: the bucket sleeps; check the network",
        "flip": "is not what prepare wrote: its checksum differs",
    }[trouble]
    with pytest.raises(UserError, match=f"{url}/videos-train.*, fetched 4 times, {reason}"):
        train(source, 3, on_bad_record="skip", max_bad_frac=1.0)
    assert len(shards(tmp_path)) == 1
    assert not list(tmp_path.rglob("*partial"))


class NoCredentialsError(Exception):
    """As botocore names it."""


def test_waits_and_failures_of_the_network_are_told(storage, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("adafocus_jax.data.records.storage._NOTICE_SEC", 0.02)
    (tmp_path / "x-array_record-0").write_text("there")
    storage.trouble[:] = ["timeout", "slow"]
    fetch_file(f"storage://{tmp_path}/x-array_record-0", tmp_path / "y", None)
    assert (tmp_path / "y").read_text() == "there"
    assert "does not come: TimeoutError: the bucket sleeps: trying again in 0 s" in caplog.messages[0]
    assert caplog.messages[1].startswith(f"still waiting for storage://{tmp_path}/x-array_record-0 after")


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (NoCredentialsError("Unable to locate credentials"), "needs credentials .*AWS_ACCESS_KEY_ID"),
        (
            ConnectionError("no route"),
            "SHA256SUMS does not come: ConnectionError: no route; check the network",
        ),
    ],
)
def test_inspecting_what_cannot_be_reached_fails_at_once(failure, message, bucket, storage, monkeypatch):
    attempts = []

    def fail(self, rpath, lpath, **options):
        attempts.append(rpath)
        raise failure

    monkeypatch.setattr(storage, "get_file", fail)
    with pytest.raises(UserError, match=message):
        inspect_records(f"storage://{bucket}")
    assert len(attempts) == 1


def test_faults_that_trying_again_does_not_help(bucket, storage, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(bucket, copy)
    source = open_remote(f"storage://{copy}", "train", CacheOptions(str(tmp_path / "cache")))
    lost = shards(copy)[0]
    lost.unlink()
    with pytest.raises(UserError, match=f"storage://{lost} is missing"):
        source[0]
    storage.trouble[:] = ["full"]
    with pytest.raises(
        UserError, match=r"no room for storage://.*: set data.cache_dir, or less data.cache_gb"
    ):
        source[len(source) - 1]
    assert max(storage.fetched.values()) == 1
    (copy / "SHA256SUMS").write_text("00  ../../elsewhere\n")
    with pytest.raises(UserError, match=r"SHA256SUMS does not read: it names '../../elsewhere'"):
        open_remote(f"storage://{copy}", "train", CacheOptions(str(tmp_path / "cache")))
    (copy / "SHA256SUMS").unlink()
    with pytest.raises(UserError, match="SHA256SUMS is missing"):
        open_remote(f"storage://{copy}", "train", CacheOptions(str(tmp_path / "cache")))


def test_addresses_that_cannot_be_read(bucket, tmp_path, monkeypatch):
    cache = CacheOptions(str(tmp_path))
    with pytest.raises(UserError, match=r"nope://x/SHA256SUMS cannot be read, Protocol not known: nope"):
        open_data("nope://x", "train", cache=cache)
    monkeypatch.setattr(fsspec.core, "url_to_fs", lambda url: exec("raise ImportError"))
    with pytest.raises(UserError, match=r"gs:// needs another package: pip install 'adafocus_jax\[gs\]'"):
        open_data("gs://x/y", "train", cache=cache)
    monkeypatch.undo()
    with pytest.raises(UserError, match=r"data.cache_gb .* does not hold two shards of .*: give .* or more"):
        open_data(f"file://{bucket}", "train", cache=CacheOptions(str(tmp_path), gigabytes(bucket, 2)))
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot keep remote records in .*; set data.cache_dir"):
        open_data(f"file://{bucket}", "train", cache=CacheOptions(str(tmp_path / "file")))


def make_cache(bucket: Path, root: Path, num_shards: float) -> ShardCache:
    folder, sums = shard_cache.fetch_metadata(f"storage://{bucket}", root)
    return ShardCache(f"storage://{bucket}", folder, sums, int(gigabytes(bucket, num_shards) * 1e9))


def test_a_shard_is_fetched_once_by_all_who_want_it_at_a_time(bucket, storage, tmp_path):
    cache, name = make_cache(bucket, tmp_path, 99), shards(bucket)[0].name
    partial = partial_path(name, cache.folder / ".prepare")
    partial.write_bytes(b"of a process that was killed")
    storage.trouble[:] = ["slow"]
    threads = [threading.Thread(target=cache.fetch, args=(name,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert storage.fetched[name] == 1
    assert [path.name for path in shards(cache.folder)] == [name]
    assert not partial.exists()


def test_the_least_recently_used_shards_go_and_readers_do_not_notice(
    bucket, storage, tmp_path, tmp_path_factory
):
    cache, names = make_cache(bucket, tmp_path, 3.3), [path.name for path in shards(bucket)]
    for name in names[:3]:
        cache.fetch(name)
        time.sleep(0.01)
    reader = cache.open(names[0])
    cache.fetch(names[3])
    assert [path.name for path in shards(tmp_path)] == [names[0], names[2], names[3]]
    for name in names[4:]:
        cache.fetch(name)
    assert names[0] not in [path.name for path in shards(tmp_path)]
    assert reader.read([0]) == cache.open(names[0]).read([0])
    other = make_cache(shutil.copytree(bucket, tmp_path_factory.mktemp("other") / "set"), tmp_path, 3.3)
    assert other.folder != cache.folder
    for name in names[:3]:
        other.fetch(name)
    assert len(shards(tmp_path)) == 3, "the bound is that of all data sets together"


def test_a_shard_that_is_being_opened_stays(bucket, storage, tmp_path):
    cache, names = make_cache(bucket, tmp_path, 1.5), [path.name for path in shards(bucket)]
    cache.fetch(names[0])
    with shard_cache._lock(cache.folder / names[0], shard_cache.fcntl.LOCK_SH):
        cache.fetch(names[1])
        assert [path.name for path in shards(tmp_path)] == names[:2]
    cache.fetch(names[2])
    assert [path.name for path in shards(tmp_path)] == [names[2]]


def test_records_that_were_prepared_anew_are_fetched_anew(bucket, video_folder, tmp_path):
    cache = CacheOptions(str(tmp_path / "cache"))
    prepare(video_folder, tmp_path / "a", size=20, workers=0, shards=3)
    before = open_data(f"file://{tmp_path}/a", "train", cache=cache)[0]
    shutil.rmtree(tmp_path / "a")
    prepare(video_folder, tmp_path / "a", size=20, workers=0, shards=3, seed=1)
    after = open_data(f"file://{tmp_path}/a", "train", cache=cache)[0]
    assert after.name == open_data(tmp_path / "a", "train")[0].name != before.name


def test_the_users_cache_folder(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert CacheOptions().root == Path("/somewhere/adafocus_jax")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert CacheOptions().root == Path.home() / ".cache" / "adafocus_jax"


def test_remote_records_are_inspected_without_keeping_them(bucket, storage, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    found, local = inspect_records(f"storage://{bucket}/"), inspect_records(bucket)
    assert (found.splits, found.classes, found.traits, found.damage) == (
        local.splits,
        local.classes,
        local.traits,
        [],
    )
    storage.trouble[:] = ["flip", *["timeout"] * 4]
    first, *_, second = inspect_records(f"storage://{bucket}", threads=1).damage
    assert "its checksum does not match" in first.reason
    assert "fetched 4 times, does not come" in second.reason
    assert not list(tmp_path.iterdir())

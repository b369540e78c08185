"""What must not grow with the data set: opening, memory, the cost of shuffling, open files."""

import os
import subprocess
import sys
from pathlib import Path

import grain
import numpy as np
import pytest

from adafocus_jax.data.batches import pipeline
from adafocus_jax.data.batches.clips import ClipSpec
from adafocus_jax.data.records import order
from adafocus_jax.data.records import reader as records
from adafocus_jax.data.records.reader import Record, open_records
from adafocus_jax.data.records.schema import encode_frame, encode_record, record_features, shard_name
from adafocus_jax.data.records.writer import ShardWriter, write_metadata

ROOT = Path(__file__).parents[2]
SHARDS = 1000
JPEG = encode_frame(np.zeros((8, 8, 3), np.uint8), 90)


@pytest.fixture(scope="module")
def million(tmp_path_factory) -> Path:
    """A million tiny records in 1000 shards, which are one file under 1000 names."""
    out = tmp_path_factory.mktemp("million")
    (out / ".prepare").mkdir()
    record = encode_record(record_features(("a",)), [JPEG], [0], "v.mp4", 1.0)
    with ShardWriter(out / shard_name("train", 0, SHARDS)) as writer:
        for _ in range(1_000_000 // SHARDS):
            writer.write(record)
    for number in range(1, SHARDS):
        os.link(out / shard_name("train", 0, SHARDS), out / shard_name("train", number, SHARDS))
    write_metadata(out, ("a",), {"train": [1_000_000 // SHARDS] * SHARDS}, {"train": 0}, 1)
    return out


OPEN = """
import sys, time
from adafocus_jax.data.batches.pipeline import ClipSpec, train_batches
from adafocus_jax.data.records.reader import open_records

def rss_mb():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 1e6

before, began = rss_mb(), time.process_time()  # of this process alone, whatever else runs here
source = open_records(sys.argv[1], "train")
seconds = time.process_time() - began
batches = train_batches(source, ClipSpec(1, 8), batch_size=100, seed=0, num_steps=20, num_threads=0)
assert sum(batch["mask"].sum() for batch in batches) == 2000
print(len(source), seconds, rss_mb() - before)
"""


def test_a_million_records_open_at_once_and_take_little_memory(million):
    command = [sys.executable, "-c", OPEN, str(million)]
    done = subprocess.run(
        command, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True, timeout=120
    )
    count, seconds, megabytes = map(float, done.stdout.split())
    assert count == 1_000_000
    assert seconds < 2
    assert megabytes < 300


def test_open_shards_are_bounded(million, monkeypatch):
    monkeypatch.setattr(records, "_MAX_OPEN_SHARDS", 5)
    source = open_records(million, "train")
    before = len(os.listdir("/proc/self/fd"))
    for number in range(40):
        assert source[number * 1000 + 7].frames == [JPEG]
        assert len(os.listdir("/proc/self/fd")) <= before + 5


class Counted:
    """Any number of equal records."""

    classes, max_labels = ("a",), 1

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Record:
        return Record([JPEG], (0,), "v", 1.0, "v")


def test_shuffling_costs_the_same_for_any_number_of_records(monkeypatch):
    """One evaluation of a permutation per example, and no list of the records."""
    calls = []

    def counted(place, last, *, seed, rounds):
        calls.append((last, rounds))
        return grain.experimental.index_shuffle(place, last, seed=seed, rounds=rounds)

    monkeypatch.setattr(order, "index_shuffle", counted)
    for count in (1_000, 1_000_000_000):
        calls.clear()
        options = {"batch_size": 10, "seed": 0, "num_steps": 3, "num_threads": 0}
        list(pipeline.train_batches(Counted(count), ClipSpec(1, 8), **options))
        assert calls == [(count - 1, 4)] * 30


def test_memory_stays_within_what_the_docstring_states():
    """``num_threads`` batches made, as many waiting and two with the reader, of 24 MB each."""
    code = """
import sys
from adafocus_jax.benchmark.reading import peak_bytes
sys.path.insert(0, sys.argv[1])
from test_scale import Counted
from adafocus_jax.data.batches.pipeline import ClipSpec, train_batches
options = {"batch_size": 20, "seed": 0, "num_steps": 12, "num_threads": 2}
run = lambda: [None for _ in train_batches(Counted(100), ClipSpec(8, 224), **options)]
run()
print(peak_bytes(run))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).parent)],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    batch_bytes = 20 * 8 * 224**2 * 3
    if done.stdout.strip() != "None":
        assert batch_bytes < int(done.stdout) < 6.5 * batch_bytes

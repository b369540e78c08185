"""What is broken is named, and is replaced by the same thing whoever reads; nothing broken becomes pixels."""

import logging
import multiprocessing
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st

from adafocus_jax.data.batches.clips import ClipSpec
from adafocus_jax.data.batches.pipeline import eval_batches, train_batches
from adafocus_jax.data.records.reader import RecordSource, open_records
from adafocus_jax.data.records.schema import (
    RecordError,
    encode_frame,
    encode_record,
    record_features,
    shard_name,
)
from adafocus_jax.data.records.writer import ShardWriter, write_metadata
from adafocus_jax.errors import UserError

CLASSES = ("a", "b", "c")
SPEC = ClipSpec(num_candidates=3, image_size=8, resize=10)
SKIP = {"on_bad_record": "skip", "max_bad_frac": 0.5}
GOOD = 12
BAD = (2, 3, 7)
"""A JPEG that ends early, a label outside the classes, no record of ours. Their neighbours 4 and 8 replace them."""


def made_record(seed: int, *, label: int | None = None, cut_short: bool = False) -> bytes:
    frames = np.random.default_rng(seed).integers(0, 256, (4, 12, 16, 3), dtype=np.uint8)
    jpegs = [encode_frame(frame, 90) for frame in frames]
    if cut_short:
        jpegs = [jpeg[:-20] for jpeg in jpegs]
    label = seed % 3 if label is None else label
    return encode_record(record_features((*CLASSES, "d")), jpegs, [label], f"v{seed}.mp4", 10.0)


def write_set(out: Path, records: list[bytes]) -> RecordSource:
    (out / ".prepare").mkdir()
    with ShardWriter(out / shard_name("train", 0, 1)) as writer:
        for record in records:
            writer.write(record)
    write_metadata(out, CLASSES, {"train": [len(records)]}, {"train": 0}, 1)
    return open_records(out, "train")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("good")


@pytest.fixture(scope="module")
def good(folder) -> RecordSource:
    return write_set(folder, [made_record(seed) for seed in range(GOOD)])


@pytest.fixture(scope="module")
def shard(good, folder) -> bytes:
    return (folder / shard_name("train", 0, 1)).read_bytes()


@pytest.fixture(scope="module")
def damaged(tmp_path_factory) -> RecordSource:
    records = [made_record(seed) for seed in range(GOOD)]
    records[BAD[0]] = made_record(BAD[0], cut_short=True)
    records[BAD[1]] = made_record(BAD[1], label=3)
    records[BAD[2]] = b"\x0a\x03other features"
    return write_set(tmp_path_factory.mktemp("damaged"), records)


def train(source, steps: range, *, processes: int = 1, batch_size: int = 4, **options) -> list[dict]:
    parts = [
        train_batches(
            source,
            SPEC,
            batch_size=batch_size,
            seed=6,
            start_step=steps.start,
            num_steps=steps.stop,
            process_index=index,
            process_count=processes,
            **({"num_threads": 0} | options),
        )
        for index in range(processes)
    ]
    return [
        {k: np.concatenate([b[k] for b in group]) for k in group[0]} for group in zip(*parts, strict=True)
    ]


def assert_equal(batches: list[dict], expected: list[dict]) -> None:
    for got, want in zip(batches, expected, strict=True):
        for key in want:
            np.testing.assert_array_equal(got[key], want[key], err_msg=key)


def test_a_skipped_record_is_replaced_and_the_others_stay_as_they_are(good, damaged):
    whole, skipped = train(good, range(9)), train(damaged, range(9), **SKIP)
    stand_ins = set()
    for want, got in zip(whole, skipped, strict=True):
        for row, index in enumerate(want["index"]):
            if index in BAD:
                stand_ins.add(got["frames"][row].tobytes())
                assert got["index"][row] not in BAD
                assert got["mask"][row]
                assert got["label"][row] == got["index"][row] % 3
            else:
                assert_equal([{k: v[row] for k, v in got.items()}], [{k: v[row] for k, v in want.items()}])
    clips = [clip.tobytes() for batch in skipped for clip in batch["frames"]]
    assert len(stand_ins) == 9
    assert all(clips.count(clip) == 1 for clip in stand_ins), "a stand-in is augmented on its own"


@given(
    start=st.integers(0, 7),
    length=st.integers(1, 3),
    processes=st.sampled_from([1, 2, 4]),
    threads=st.sampled_from([0, 2]),
)
@settings(max_examples=20)
def test_what_replaces_a_bad_record_depends_on_seed_and_step_alone(
    damaged, start, length, processes, threads
):
    expected = train(damaged, range(start + length), **SKIP)[start:]
    steps = range(start, start + length)
    assert_equal(train(damaged, steps, processes=processes, num_threads=threads, **SKIP), expected)


def test_worker_processes_skip_the_same_and_the_count_reaches_the_parent(damaged, caplog):
    expected = train(damaged, range(6), **SKIP)
    caplog.clear()
    with caplog.at_level(logging.WARNING, "adafocus_jax"):
        assert_equal(train(damaged, range(6), num_workers=2, num_threads=1, **SKIP), expected)
    assert len(caplog.messages) == len(BAD), "each bad record is reported once, however often it is met"
    assert all(f"{number} of 12 videos so far" in text for number, text in enumerate(caplog.messages, 1))
    for index, what in zip(
        BAD, ("(video v2.mp4) does not decode", "labels (3,)", "does not read"), strict=True
    ):
        (line,) = (text for text in caplog.messages if f"00000-of-00001, record {index} " in text)
        assert what in line


@pytest.mark.parametrize(
    "options", [{}, {"on_bad_record": "fail"}, {"on_bad_record": "skip", "max_bad_frac": 0}]
)
def test_bad_records_are_fatal_unless_they_may_be_skipped(damaged, options):
    with pytest.raises(RecordError, match=r"record \d .*"):
        train(damaged, range(9), **options)


@pytest.mark.parametrize("workers", [0, 1])
def test_more_than_the_set_share_stops_the_run(damaged, workers):
    """A twelfth of 12 records is one, and a share is rounded up."""
    with pytest.raises(
        RecordError, match=r"2 of 12 videos do not read, more than max_bad_frac allows; the last: .*record"
    ):
        train(damaged, range(9), batch_size=1, num_workers=workers, on_bad_record="skip", max_bad_frac=0.05)


def test_a_set_without_any_good_record_stops(tmp_path):
    source = write_set(tmp_path, [b"\x0a\x01x"] * 3)
    with pytest.raises(RecordError, match="3 of 3 videos do not read"):
        train(source, range(1), batch_size=1, on_bad_record="skip", max_bad_frac=1.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"on_bad_record": "ignore"}, "give fail or skip"), ({"max_bad_frac": 2}, "give a fraction")],
)
def test_options_that_are_not_valid(good, options, message):
    with pytest.raises(UserError, match=message):
        train(good, range(1), **options)


@pytest.mark.parametrize("batch_size", [1, 5, 12])
def test_evaluation_masks_what_it_skips_and_covers_the_rest_once(damaged, batch_size, caplog):
    batches = list(eval_batches(damaged, SPEC, batch_size=batch_size, num_threads=0, **SKIP))
    index, mask = (np.concatenate([b[key] for b in batches]) for key in ("index", "mask"))
    assert index[mask].tolist() == [i for i in range(GOOD) if i not in BAD]
    assert (index[~mask] == -1).all()
    for batch in batches:
        assert not batch["frames"][~batch["mask"]].any(), "nothing is left of frames that did decode"
        assert (batch["labels"][~batch["mask"]] == -1).all()
    assert sum("it is not scored" in text for text in caplog.messages) == len(BAD)


def test_a_shard_that_vanishes_is_named(records, tmp_path):
    shutil.copytree(records, tmp_path / "copy")
    source = open_records(tmp_path / "copy", "train")
    (tmp_path / "copy" / shard_name("train", 1, 3)).unlink()
    with pytest.raises(RecordError, match=r"00001-of-00003, record \d \(video .*\) does not read: .*No such"):
        train(source, range(3))


@given(position=st.integers(0, 1 << 20), bit=st.integers(0, 7), near_end=st.booleans())
@settings(max_examples=150)
def test_a_flipped_bit_in_a_shard_never_becomes_pixels(
    good, shard, tmp_path_factory, position, bit, near_end
):
    """Every stretch of a shard, its index too, has a checksum; what has none is padding."""
    content = bytearray(shard)
    used = len(bytes(content).rstrip(b"\0"))
    position = used - 1 - position % 200 if near_end else position % len(content)
    content[position] ^= 1 << bit
    assert_same_or_error(content, good, tmp_path_factory)


@given(length=st.integers(0, 1 << 20))
@settings(max_examples=40)
def test_a_shard_cut_at_any_length_never_becomes_pixels(good, shard, tmp_path_factory, length):
    assert_same_or_error(shard[: length % len(shard)], good, tmp_path_factory)


def assert_same_or_error(content: bytes, good: RecordSource, tmp_path_factory) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed"
    path.write_bytes(content)
    source = RecordSource([(str(path), 0, GOOD)], CLASSES, 1)
    for index in range(GOOD):
        try:
            record = source[index]
        except RecordError:
            continue
        assert (record.frames, record.labels) == (good[index].frames, good[index].labels)


@given(length=st.integers(0, 5000), side=st.integers(1, 60))
@settings(max_examples=80)
def test_a_jpeg_cut_short_is_an_error_and_not_grey(length, side):
    """Most decoders fill what is missing with grey, with a warning at most."""
    frame = np.random.default_rng(side).integers(0, 256, (side, side + 3, 3), dtype=np.uint8)
    jpeg = encode_frame(frame, 90)
    with pytest.raises(ValueError):  # noqa: PT011 - every reason will do
        simplejpeg.decode_jpeg(jpeg[: length % len(jpeg)])


def test_frames_of_different_sizes_are_an_error(tmp_path):
    jpegs = [encode_frame(np.zeros((8, width, 3), np.uint8), 90) for width in (8, 9)]
    source = write_set(tmp_path, [encode_record(record_features(CLASSES), jpegs, [0], "v.mp4", 1.0)])
    with pytest.raises(RecordError, match=r"frame 1 of .* has 8 × 9 pixels, frames before it 8 × 8"):
        train(source, range(1), batch_size=1)


def test_a_killed_worker_ends_the_run_within_seconds(good):
    batches = train_batches(good, SPEC, batch_size=4, seed=0, num_steps=10**9, num_workers=2, num_threads=1)
    next(batches)
    os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
    killed = time.monotonic()
    with pytest.raises(UserError, match="a data worker was killed by SIGKILL, perhaps for want of memory"):
        for _ in batches:
            pass
    assert time.monotonic() - killed < 20
    assert not multiprocessing.active_children()

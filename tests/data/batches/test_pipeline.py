import shutil
import subprocess
import sys
import time
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
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

ROOT = Path(__file__).parents[2]
SPEC = ClipSpec(num_candidates=3, image_size=8, resize=10)
QUIET = {"num_threads": 0}


@pytest.fixture(scope="module")
def source(records) -> RecordSource:
    """11 records."""
    return open_records(records, "train")


def train(source, steps: range, *, batch_size=4, seed=0, spec=SPEC, processes=1, **options) -> list[dict]:
    """The global batches of the steps, put together from all processes."""
    parts = [
        train_batches(
            source,
            spec,
            batch_size=batch_size,
            seed=seed,
            start_step=steps.start,
            num_steps=steps.stop,
            process_index=index,
            process_count=processes,
            **(QUIET | options),
        )
        for index in range(processes)
    ]
    return [
        {key: np.concatenate([part[key] for part in batch]) for key in batch[0]}
        for batch in zip(*parts, strict=True)
    ]


def assert_equal(batches: list[dict], expected: list[dict]) -> None:
    assert len(batches) == len(expected)
    for got, want in zip(batches, expected, strict=True):
        assert got.keys() == want.keys()
        for key in want:
            np.testing.assert_array_equal(got[key], want[key], err_msg=key)


def test_shapes_and_types(source):
    (batch,) = train(source, range(1), spec=ClipSpec(3, 8, num_glance=2))
    expected = {
        "frames": ((4, 3, 8, 8, 3), np.uint8),
        "glance": ((4, 2, 8, 8, 3), np.uint8),
        "label": ((4,), np.int32),
        "labels": ((4, 1), np.int32),
        "mask": ((4,), np.bool_),
        "index": ((4,), np.int32),
    }
    assert {key: (value.shape, value.dtype.type) for key, value in batch.items()} == expected
    assert batch["mask"].all()
    for label, index in zip(batch["label"], batch["index"], strict=True):
        assert source[index].labels == (label,)


def test_it_fills_a_video_batch(source):
    from adafocus_jax.types import VideoBatch

    (batch,) = train(source, range(1))
    assert VideoBatch(**batch).glance is None


@given(
    start=st.integers(0, 9),
    length=st.integers(0, 4),
    processes=st.sampled_from([1, 2, 4]),
    seed=st.integers(0, 3),
    threads=st.sampled_from([0, 1, 3]),
)
@settings(max_examples=25)
def test_a_batch_depends_on_seed_and_step_alone(source, start, length, processes, seed, threads):
    """Steps 2, 5 and 8 run across the end of an epoch of 11 records."""
    expected = train(source, range(0, start + length), seed=seed)[start:]
    got = train(source, range(start, start + length), seed=seed, processes=processes, num_threads=threads)
    assert_equal(got, expected)


@given(batch_size=st.integers(1, 11), seed=st.integers(0, 5))
@settings(max_examples=20)
def test_every_record_comes_once_per_epoch(source, batch_size, seed):
    batches = train(source, range(33 // batch_size + 1), batch_size=batch_size, seed=seed)
    order = np.concatenate([batch["index"] for batch in batches])
    for epoch in range(3):
        assert sorted(order[11 * epoch : 11 * (epoch + 1)]) == list(range(11))


def test_epochs_and_seeds_have_orders_of_their_own_well_mixed(source):
    spec = ClipSpec(1, 4)
    orders = [
        batch["index"]
        for seed in (0, 1)
        for batch in train(source, range(60), batch_size=11, seed=seed, spec=spec)
    ]
    assert len({tuple(order) for order in orders}) == 120
    places = np.stack(orders)
    counts = np.stack([np.bincount(column, minlength=11) for column in places.T])
    # Each record is equally likely at each place: 120/11 times, give or take five standard deviations.
    assert abs(counts - 120 / 11).max() < 5 * np.sqrt(120 / 11)


def test_batch_size_does_not_change_the_examples(source):
    small, large = train(source, range(10), batch_size=2), train(source, range(2), batch_size=10)
    for key in ("frames", "index", "label"):
        np.testing.assert_array_equal(
            np.concatenate([b[key] for b in small]), np.concatenate([b[key] for b in large])
        )


def test_a_record_is_augmented_anew_in_each_epoch(source):
    batches = train(source, range(11), batch_size=11, spec=ClipSpec(3, 8))
    clips = {(b["index"][row], b["frames"][row].tobytes()) for b in batches for row in range(11)}
    assert len(clips) > 0.8 * 11 * 11  # Grey videos: there are not many different clips of the short ones.


def test_worker_processes_make_the_same_batches(source):
    spec = ClipSpec(3, 8, num_glance=2)
    expected = train(source, range(2, 7), spec=spec)
    assert_equal(train(source, range(2, 7), spec=spec, num_workers=2, num_threads=1), expected)


def test_evaluation_in_workers_with_fewer_batches_than_workers(source):
    expected = list(eval_batches(source, SPEC, batch_size=11, **QUIET))
    assert_equal(list(eval_batches(source, SPEC, batch_size=11, num_workers=3)), expected)


@given(batch=st.integers(1, 6), processes=st.integers(1, 5))
@settings(max_examples=25)
def test_evaluation_covers_every_record_once(source, batch, processes):
    parts = [
        list(
            eval_batches(
                source, SPEC, batch_size=batch * processes, process_index=i, process_count=processes, **QUIET
            )
        )
        for i in range(processes)
    ]
    assert len({len(part) for part in parts}) == 1
    batches = [b for group in zip(*parts, strict=True) for b in group]
    assert all(len(b["index"]) == batch for b in batches)
    index, mask = (np.concatenate([b[key] for b in batches]) for key in ("index", "mask"))
    assert index[mask].tolist() == list(range(11))
    assert not mask[11:].any()
    assert (index[~mask] == -1).all()
    for b in batches:
        assert not b["frames"][~b["mask"]].any()
        assert (b["labels"][~b["mask"]] == -1).all()


def test_evaluation_cuts_the_middle(source):
    batch = next(eval_batches(source, ClipSpec(4, 20, resize=20), batch_size=11, **QUIET))
    for index in range(11):
        record = source[index]
        total = len(record.frames)
        for slot in range(4):
            frame = record.frame((2 * slot + 1) * total // 8)
            top, left = ((side - 20) // 2 for side in frame.shape[:2])
            np.testing.assert_array_equal(
                batch["frames"][index, slot], frame[top : top + 20, left : left + 20]
            )


def test_without_scales_and_room_only_the_flip_is_left(tmp_path):
    frame = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    source = one_record_source(tmp_path, [frame], [[0]])
    whole = source[0].frame(0)
    seen = set()
    for spec in (
        ClipSpec(1, 8, scales=(1.0,)),
        ClipSpec(1, 8, scales=(1.0,), flip=False),
        ClipSpec(1, 8, resize=8, augment=False),
    ):
        for batch in train(source, range(20), batch_size=1, spec=spec):
            flipped = not (batch["frames"][0, 0] == whole).all()
            assert not flipped or (batch["frames"][0, 0] == whole[:, ::-1]).all()
            seen.add((spec.flip, spec.augment, flipped))
    assert seen == {(True, True, True), (True, True, False), (False, True, False), (True, False, False)}


def test_one_cut_for_all_frames_of_a_video(tmp_path):
    frame = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    source = one_record_source(tmp_path, [frame] * 9, [[0]])
    for batch in train(source, range(10), batch_size=1, spec=ClipSpec(4, 8, num_glance=3)):
        clip = np.concatenate([batch["frames"][0], batch["glance"][0]])
        assert (clip == clip[0]).all()


def test_one_of_several_labels_is_trained_on(tmp_path):
    frame = np.zeros((8, 8, 3), np.uint8)
    source = one_record_source(tmp_path, [frame], [[2, 0], [1]])
    batches = train(source, range(100), batch_size=2)
    labels = {0: [], 1: []}
    for batch in batches:
        for row in range(2):
            labels[batch["index"][row]].append(batch["label"][row])
            assert batch["labels"][row].tolist() == [[2, 0], [1, -1]][batch["index"][row]]
    assert set(labels[1]) == {1}
    assert set(labels[0]) == {0, 2}
    assert abs(labels[0].count(2) - 50) < 25
    (batch,) = eval_batches(source, SPEC, batch_size=2, **QUIET)
    assert batch["label"].tolist() == [2, 1]


def one_record_source(out: Path, frames: list[np.ndarray], labels: list[list[int]]) -> RecordSource:
    """One record for each list of labels, all with the same frames."""
    (out / ".prepare").mkdir()
    features, jpegs = record_features(("a", "b", "c")), [encode_frame(frame, 90) for frame in frames]
    with ShardWriter(out / shard_name("train", 0, 1)) as writer:
        for each in labels:
            writer.write(encode_record(features, jpegs, each, "v.mp4", 10.0))
    write_metadata(out, ("a", "b", "c"), {"train": [len(labels)]}, {"train": 0}, max(map(len, labels)))
    return open_records(out, "train")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 12}, "batch size 12 is more than the 11 training videos: give 11 or less"),
        ({"batch_size": 9, "process_count": 2}, "batch size 9 does not divide over 2 processes"),
        ({"batch_size": 0}, "batch size 0"),
        ({"batch_size": 4, "seed": -1}, "seed -1 is negative"),
    ],
)
def test_what_cannot_be_batched(source, options, message):
    with pytest.raises(UserError, match=message):
        train_batches(source, SPEC, **({"seed": 0, "num_steps": 1} | options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_candidates": 0}, "num_candidates 0"),
        ({"image_size": 0}, "image_size 0"),
        ({"num_glance": 0}, "num_glance 0"),
        ({"resize": 7}, "resize 7 is less than image_size 8"),
        ({"scales": ()}, "scales"),
        ({"scales": (1.5,)}, "scales"),
    ],
)
def test_specs_that_make_no_clip(options, message):
    with pytest.raises(UserError, match=message):
        ClipSpec(**({"num_candidates": 2, "image_size": 8} | options))


def test_default_short_side():
    assert ClipSpec(48, 224).short_side == 256


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_record_is_named(records, tmp_path, workers):
    shutil.copytree(records, tmp_path / "copy")
    path = tmp_path / "copy" / shard_name("train", 1, 3)
    content = bytearray(path.read_bytes())
    content[5000] ^= 1
    path.write_bytes(content)
    batches = eval_batches(open_records(tmp_path / "copy", "train"), SPEC, batch_size=1, num_workers=workers)
    with pytest.raises(RecordError, match=r"00001-of-00003, record \d \(video .*\.mp4\) does not read"):
        list(batches)


SCRIPT = """
import multiprocessing, sys, time
from adafocus_jax.data.batches.pipeline import ClipSpec, train_batches
from adafocus_jax.data.records.reader import open_records
if __name__ == "__main__":
    batches = train_batches(open_records(sys.argv[1], "train"), ClipSpec(3, 8), batch_size=4, seed=0,
                            num_steps=10**9, num_workers=2, num_threads=1)
    next(batches)
    print(*[worker.pid for worker in multiprocessing.active_children()], flush=True)
    time.sleep(60)
"""


def test_workers_do_not_outlive_a_killed_run(records, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    command = [sys.executable, str(tmp_path / "script.py"), str(records)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as run:
        workers = run.stdout.readline().split()
        run.kill()
    assert len(workers) == 2
    end = time.monotonic() + 10
    while any(is_alive(pid) for pid in workers):
        assert time.monotonic() < end, "workers outlived their parent"
        time.sleep(0.05)


def is_alive(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_run_ends_where_it_should(source):
    assert train(source, range(3, 3)) == []
    assert train(source, range(5, 3)) == []
    endless = train_batches(source, SPEC, batch_size=4, seed=0, num_steps=10**12, **QUIET)
    assert all((a["index"] != b["index"]).any() for a, b in pairwise(islice(endless, 3)))

import contextlib
import errno
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from hypothesis import given, settings
from hypothesis import strategies as st

from adafocus_jax.data.records.reader import open_records
from adafocus_jax.data.records.schema import (
    RecordError,
    encode_frame,
    encode_record,
    record_features,
    shard_name,
)
from adafocus_jax.data.records.writer import ShardWriter, write_metadata
from adafocus_jax.errors import UserError

CLASSES = ("jump", "run", "walk")


def test_a_record_without_as_many_times_as_frames_does_not_read(tmp_path):
    jpeg = encode_frame(np.zeros((8, 8, 3), np.uint8), 90)
    (tmp_path / ".prepare").mkdir()
    with ShardWriter(tmp_path / shard_name("train", 0, 1)) as writer:
        writer.write(encode_record(record_features(CLASSES), [jpeg] * 3, [0], "v", 2.0, [0.0, 0.1]))
    write_metadata(tmp_path, CLASSES, {"train": [1]}, {"train": 0}, 1)
    with pytest.raises(RecordError, match="has 3 frames and 2 times"):
        open_records(tmp_path, "train")[0]


@pytest.fixture
def copy(records, tmp_path) -> Path:
    """A copy of the records that a test may damage."""
    shutil.copytree(records, tmp_path / "copy")
    return tmp_path / "copy"


def shard(directory: Path, number: int = 1) -> Path:
    return directory / shard_name("train", number, 3)


def test_a_record_is_what_was_in_the_video(records, video_folder):
    seen = {}
    for split in ("train", "val"):
        source = open_records(records, split)
        assert source.classes == CLASSES
        assert source.max_labels == 1
        for index in range(len(source)):
            record = source[index]
            seen[record.name] = split
            label, number = record.name.removesuffix(".mp4").split("/")
            assert record.labels == (CLASSES.index(label),)
            assert (video_folder / record.name).is_file()
            assert len(record.frames) == 5 + 3 * int(number)
            assert record.fps == pytest.approx(12, rel=1e-3)
            np.testing.assert_allclose(record.times_sec, np.arange(len(record.frames)) / 12, atol=1e-3)
            assert record.frame(0).shape == ((20, 27, 3), (27, 20, 3), (20, 20, 3))[int(number) % 3]
            levels = [record.frame(i).mean() for i in range(len(record.frames))]
            np.testing.assert_allclose(levels, 10 + 8 * np.arange(len(levels)), atol=4)
    assert len(seen) == 15
    assert sum(split == "val" for split in seen.values()) == 4


def test_tensorflow_datasets_reads_the_same(records):
    builder = tfds.builder_from_directory(records)
    assert builder.info.features["labels"].feature.names == list(CLASSES)
    assert builder.info.splits["train"].num_examples == 11
    for split in ("train", "val", "train[:50%]", "train[7:9]"):
        source, ours = builder.as_data_source(split), open_records(records, split)
        assert len(source) == len(ours)
        for theirs, record in zip(source, ours, strict=True):
            assert list(theirs["frames"]) == record.frames
            assert (theirs["name"].decode(), theirs["num_frames"]) == (record.name, len(record.frames))
            assert tuple(theirs["labels"]) == record.labels
            assert theirs["fps"] == record.fps


def test_it_works_where_tensorflow_and_jax_are_not_loaded(records):
    code = (
        "import sys; from adafocus_jax.data.records.reader import open_records\n"
        "open_records(sys.argv[1], 'train')[3].frame(0)\n"
        "assert not {'tensorflow', 'jax', 'grain', 'flax', 'fsspec'} & set(sys.modules)"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code, str(records)], check=True, cwd=root, timeout=60)


def test_a_source_pickles_without_its_open_files(records):
    source = open_records(records, "train")
    first = source[0]
    again = pickle.loads(pickle.dumps(source))
    assert again[0] == first
    assert len(pickle.dumps(source)) < 5000
    with pytest.raises(IndexError):
        source[len(source)]


@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    num_frames=st.integers(1, 3),
    labels=st.lists(st.integers(0, 2), min_size=1, max_size=3, unique=True),
    name=st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20),
)
@settings(max_examples=40)
def test_any_video_survives_the_round_trip(tmp_path_factory, height, width, num_frames, labels, name):
    out = tmp_path_factory.mktemp("one")
    frame = np.linspace(0, 255, height * width * 3).astype(np.uint8).reshape(height, width, 3)
    jpegs = [encode_frame(frame[::-1], 95)] * num_frames
    write_set(out, [encode_record(record_features(CLASSES), jpegs, labels, name, 7.5)])
    (record,) = open_records(out, "train")
    assert (record.frames, record.labels, record.name, record.fps) == (jpegs, tuple(labels), name, 7.5)
    assert record.frame(num_frames - 1).shape == frame.shape


def write_set(out: Path, records: list[bytes]) -> None:
    (out / ".prepare").mkdir()
    with ShardWriter(out / shard_name("train", 0, 1)) as writer:
        for record in records:
            writer.write(record)
    write_metadata(out, CLASSES, {"train": [len(records)]}, {"train": 0}, 3)


def test_a_shard_is_there_whole_or_not_at_all(tmp_path):
    (tmp_path / ".prepare").mkdir()
    path = tmp_path / "shard"

    def interrupted():
        with ShardWriter(path) as writer:
            writer.write(b"x" * 100)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [file.name for file in tmp_path.rglob("*")] == [".prepare"]
    with ShardWriter(path) as writer:
        writer.write(b"x")
        assert not path.exists()
    assert path.is_file()
    assert not list((tmp_path / ".prepare").iterdir())


def test_a_folder_that_takes_no_files(tmp_path, monkeypatch):
    nowhere = contextlib.nullcontext(tmp_path / "nowhere" / "shard")
    monkeypatch.setattr("adafocus_jax.data.records.writer.writing", lambda *_, **__: nowhere)
    with (
        pytest.raises(OSError, match=r"cannot write .*shard: open"),
        ShardWriter(tmp_path / "shard") as writer,
    ):
        writer.write(b"x")


def corrupt(directory: Path) -> None:
    content = bytearray(shard(directory).read_bytes())
    content[5000] ^= 1
    shard(directory).write_bytes(content)


def truncate(directory: Path) -> None:
    shard(directory).write_bytes(shard(directory).read_bytes()[:70000])


def empty(directory: Path) -> None:
    shard(directory).write_bytes(b"")


def vanish(directory: Path) -> None:
    shard(directory).unlink()


@pytest.mark.parametrize("damage", [corrupt, truncate, empty, vanish])
def test_damage_is_named_and_never_read(copy, records, damage):
    source, whole = open_records(copy, "train"), open_records(records, "train")
    damage(copy)
    bad = {}
    for index in range(len(source)):
        try:
            assert source[index].frames == whole[index].frames
        except RecordError as error:
            bad[index] = str(error)
    assert bad
    assert set(bad) <= set(range(4, 8))  # The second of shards of 4, 4 and 3.
    for index, message in bad.items():
        video = whole[index].name
        assert f"{shard(copy).name}, record {index - 4} (video {video}) does not read" in message
        assert "\n" not in message


@given(data=st.data())
@settings(max_examples=40)
def test_fuzzed_records_are_errors_and_not_wrong_frames(tmp_path_factory, data):
    jpeg = encode_frame(np.zeros((8, 8, 3), np.uint8), 90)
    content = bytearray(encode_record(record_features(CLASSES), [jpeg] * 2, [1], "v.mp4", 10.0))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    out = tmp_path_factory.mktemp("fuzz")
    write_set(out, [bytes(content)])
    try:
        record = open_records(out, "train")[0]
        frames = [record.frame(i) for i in range(len(record.frames))]
    except RecordError:
        return
    assert len(frames) == 2
    assert set(record.labels) <= {0, 1, 2}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": [3]}, r"video v.mp4\) has labels \(3,\), valid are 0…2"),
        ({"labels": []}, r"has labels \(\)"),
        ({"frames": []}, r"video v.mp4\) states 0 frames and has 0"),
        ({"fps": 0.0}, "states"),
    ],
)
def test_records_that_make_no_sense(tmp_path, changes, message):
    features = record_features((*CLASSES, "more"))
    jpeg = encode_frame(np.zeros((8, 8, 3), np.uint8), 90)
    good = {"frames": [jpeg], "labels": [0], "name": "v.mp4", "fps": 1.0}
    record = good | changes
    write_set(
        tmp_path,
        [encode_record(features, record["frames"], record["labels"], record["name"], record["fps"])],
    )
    with pytest.raises(RecordError, match=message):
        open_records(tmp_path, "train")[0]


def test_a_frame_that_does_not_decode_is_named(tmp_path):
    jpeg = encode_frame(np.zeros((8, 8, 3), np.uint8), 90)
    write_set(tmp_path, [encode_record(record_features(CLASSES), [jpeg, b"no"], [0], "v.mp4", 1.0)])
    record = open_records(tmp_path, "train")[0]
    with pytest.raises(
        RecordError, match=r"frame 1 of .*00000-of-00001, record 0 \(video v.mp4\) does not decode"
    ):
        record.frame(1)


def test_opening_what_is_not_there(records, copy, tmp_path):
    with pytest.raises(UserError, match="run adafocus prepare SRC"):
        open_records(tmp_path / "nowhere", "train")
    with pytest.raises(UserError, match=r"no split 'test' in .*: there are train, val"):
        open_records(records, "test")
    with pytest.raises(UserError, match="is empty"):
        open_records(records, "train[:0]")
    vanish(copy)
    with pytest.raises(UserError, match=r"1 of 3 shards are missing, the first is .*00001-of-00003"):
        open_records(copy, "train")
    (copy / "dataset_info.json").write_text("{")
    (copy / "SHA256SUMS").unlink()
    with pytest.raises(UserError, match=r"the metadata in .* does not read"):
        open_records(copy, "train")
    (copy / "dataset_info.json").unlink()
    with pytest.raises(UserError, match="are not finished: run the same adafocus prepare"):
        open_records(copy, "train")


METADATA = ("dataset_info.json", "features.json", "labels.labels.txt", "metadata.json")


@given(
    name=st.sampled_from((*METADATA, "SHA256SUMS")),
    how=st.sampled_from(("flip", "cut", "empty", "remove")),
    place=st.floats(0, 0.999),
)
@settings(deadline=None, max_examples=60)
def test_damaged_metadata_are_named_and_never_believed(records, tmp_path_factory, name, how, place):
    copy = tmp_path_factory.mktemp("metadata")
    for path in records.iterdir():
        if path.is_file():
            (copy / path.name).write_bytes(path.read_bytes())
    content = bytearray((copy / name).read_bytes())
    at = int(place * len(content))
    content[at] ^= 1
    changed = {"flip": bytes(content), "cut": bytes(content[:at]), "empty": b""}
    if how == "remove":
        (copy / name).unlink()
    else:
        (copy / name).write_bytes(changed[how])
    if (name, how) == ("SHA256SUMS", "remove"):  # records of a version without it
        assert open_records(copy, "train").classes == CLASSES
    elif name == "SHA256SUMS":  # what it says of a shard is compared where shards are fetched, and by inspect
        with contextlib.suppress(UserError):
            assert open_records(copy, "train").classes == CLASSES
    else:
        message = name if (name, how) != ("dataset_info.json", "remove") else "run adafocus prepare"
        with pytest.raises(UserError, match=message):
            open_records(copy, "train")


def test_class_names_that_storage_did_not_give_to_tensorflow_datasets(records, monkeypatch):
    def fail(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("tensorflow_datasets.core.features.class_label_feature._load_names_from_file", fail)
    with pytest.raises(UserError, match=r"labels.labels.txt could not be read a moment ago"):
        open_records(records, "train")


def test_metadata_that_were_edited_on_purpose(copy):
    labels = copy / "labels.labels.txt"
    labels.write_text(labels.read_text().replace("jump", "leap"))
    with pytest.raises(
        UserError, match=r"labels.labels.txt differs from what was written: .*edited on purpose\?"
    ):
        open_records(copy, "train")
    listing = subprocess.run(["sha256sum", labels.name], cwd=copy, capture_output=True, text=True, check=True)
    sums = (copy / "SHA256SUMS").read_text().splitlines(keepends=True)
    kept = [line for line in sums if labels.name not in line]
    (copy / "SHA256SUMS").write_text("".join([*kept, listing.stdout]))
    assert open_records(copy, "train").classes == ("leap", "run", "walk")


def test_opening_other_records(tmp_path):
    info = tfds.core.DatasetInfo(
        builder=tfds.core.DatasetIdentity(
            name="other", version=tfds.core.Version("1.0.0"), data_dir=str(tmp_path), module_name=""
        ),
        features=tfds.features.FeaturesDict({"image": tfds.features.Text()}),
    )
    info.set_file_format("array_record")
    info.write_to_directory(tmp_path)
    with pytest.raises(UserError, match="holds other records"):
        open_records(tmp_path, "train")

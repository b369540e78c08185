import shutil
from pathlib import Path

import pytest

from adafocus_jax.data.prepare.verify import inspect_records
from adafocus_jax.data.records.reader import open_records
from adafocus_jax.data.records.schema import CHECKSUMS, encode_record, record_features, shard_name
from adafocus_jax.data.records.storage import file_checksum
from adafocus_jax.data.records.writer import ShardWriter, write_metadata
from adafocus_jax.errors import UserError

SHARD = shard_name("train", 1, 3)


@pytest.fixture
def copy(records, tmp_path) -> Path:
    shutil.copytree(records, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.mark.parametrize("decode", [False, True])
def test_what_is_in_whole_records(records, decode, capsys):
    found = inspect_records(records, decode=decode)
    assert (found.name, found.classes, found.damage) == ("videos", ("jump", "run", "walk"), [])
    assert found.traits == {"metric": "top1", "flip": True, "relabel": False}
    assert capsys.readouterr().err == "inspecting: 15/15 videos\n"
    for split, contents in found.splits.items():
        read = list(open_records(records, split))
        assert contents.num_videos == len(read)
        assert contents.num_frames == sum(len(record.frames) for record in read)
        assert contents.num_bytes == sum(len(jpeg) for record in read for jpeg in record.frames)
        assert sorted(contents.labels.elements()) == sorted(record.labels[0] for record in read)
        assert sorted(contents.lengths.elements()) == sorted(len(record.frames) for record in read)
        assert sorted(contents.sizes.elements()) == sorted(record.frame(0).shape[:2] for record in read)


def test_a_flipped_byte_is_found_wherever_it_is(copy):
    """Each record is named with its video; what lies between records, the checksum of the file finds."""
    path, data = copy / SHARD, (copy / SHARD).read_bytes()
    names = [record.name for record in open_records(copy, "train[4:8]")]
    hit = set()
    for place in range(0, len(data), len(data) // 30):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :])
        damage = inspect_records(copy, threads=1).damage
        assert damage[0].file == SHARD
        assert "its checksum does not match" in damage[0].reason
        for one in damage[1:]:
            assert one.file == SHARD
            assert one.video == names[one.index]
            assert f"record {one.index}" in one.reason
            hit.add(one.index)
    assert hit


def test_a_jpeg_that_never_decoded_is_found_by_decoding(records, tmp_path):
    (tmp_path / ".prepare").mkdir()
    jpegs = open_records(records, "train")[0].frames[:2]
    path = tmp_path / shard_name("train", 0, 1)
    with ShardWriter(path) as writer:
        for frames in (jpegs, [jpegs[0], jpegs[1][:-99]], [b"no image"]):
            writer.write(encode_record(record_features(("a",)), frames, (0,), f"{len(frames)}.mp4", 1.0))
    write_metadata(
        tmp_path, ("a",), {"train": [3]}, {"train": 0}, 1, checksums={path.name: file_checksum(path)}
    )
    for decode, wrong in ((False, [2]), (True, [1, 2])):
        found = inspect_records(tmp_path, decode=decode)
        assert [one.index for one in found.damage] == wrong
        assert found.splits["train"].num_videos == 3 - len(wrong)
        assert "frame 0 of" in found.damage[-1].reason
        assert "(video 1.mp4) does not decode" in found.damage[-1].reason


@pytest.mark.parametrize(
    ("harm", "count", "words"),
    [
        (lambda out: (out / SHARD).unlink(), 1, "is missing"),
        (lambda out: (out / SHARD).write_bytes(b""), 5, "its checksum does not match"),
        (lambda out: (out / CHECKSUMS).unlink(), 1, "does not read"),
        (lambda out: (out / CHECKSUMS).write_text("x"), 1, "does not read"),
        (lambda out: (out / "features.json").unlink(), 1, "is missing"),
        (lambda out: (out / "dataset_info.json").write_text("{"), 1, "its checksum does not match"),
    ],
)
def test_what_is_lost_is_named(copy, harm, count, words):
    harm(copy)
    damage = inspect_records(copy).damage
    assert len(damage) == count
    assert words in damage[0].reason


def test_the_rest_counts_without_a_lost_shard_or_receipts(copy):
    shutil.rmtree(copy / ".prepare")
    (copy / SHARD).write_bytes((copy / SHARD).read_bytes()[:100])
    found = inspect_records(copy)
    assert found.splits["train"].num_videos == 11 - 4
    assert [one.video for one in found.damage] == [None] * 5


def test_where_nothing_is(tmp_path):
    with pytest.raises(UserError, match="are not there"):
        inspect_records(tmp_path)

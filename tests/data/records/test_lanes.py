"""Records behind an address that do not fit the cache: several hosts share the shards, and change no batch."""

from pathlib import Path

import numpy as np
import pytest

from adafocus_jax.data.batches.clips import ClipSpec
from adafocus_jax.data.batches.dataset import epoch_seed
from adafocus_jax.data.batches.pipeline import eval_batches, train_batches
from adafocus_jax.data.records.remote import open_remote
from adafocus_jax.data.records.schema import encode_frame, encode_record, record_features, shard_name
from adafocus_jax.data.records.storage import CacheOptions, file_checksum
from adafocus_jax.data.records.writer import ShardWriter, write_metadata

SPEC = ClipSpec(num_candidates=2, image_size=8, resize=10)


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("*array_record-?????-of-?????"))


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Path:
    """28 shards of 5 videos but for a few shorter ones, of which 134 videos in all; a split of 134 to evaluate, too."""
    out = tmp_path_factory.mktemp("many")
    (out / ".prepare").mkdir()
    lengths = [5] * 12 + [2, 3] + [5] * 13 + [4]
    jpeg = encode_frame(np.random.default_rng(0).integers(0, 256, (160, 160, 3), np.uint8), 95)
    record = encode_record(record_features(("a",)), [jpeg] * 2, [0], "v.mp4", 1.0)
    for split in ("train", "val"):
        for number, count in enumerate(lengths):
            with ShardWriter(out / shard_name(split, number, len(lengths))) as writer:
                for _ in range(count):
                    writer.write(record)
    num_bytes = sum(path.stat().st_size for path in shards(out)) // 2
    sums = {path.name: file_checksum(path) for path in shards(out)}
    parts = {"train": lengths, "val": lengths}
    write_metadata(out, ("a",), parts, dict.fromkeys(parts, num_bytes), 1, checksums=sums)
    return out


class Host:
    """One of several, with a cache of its own for 9 of 28 shards: 4 are read and the next 4 fetched."""

    def __init__(self, bucket, cache, index, count):
        size = sum(path.stat().st_size for path in shards(bucket)) / 2 / 28
        options = CacheOptions(str(cache / str(index)), 4.01 * size / 0.45 / 1e9)
        self.train, self.val = (
            open_remote(f"storage://{bucket}", split, options) for split in ("train", "val")
        )
        self.share = {"batch_size": 8, "process_index": index, "process_count": count, "num_threads": 0}

    def read(self, storage, batches):
        """The records of each batch, and how many shards came for them."""
        storage.fetched.clear()
        found = np.stack([batch["index"] for batch in batches])
        return found, sum(n for name, n in storage.fetched.items() if "array_record" in name)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_hosts_share_the_shards_and_their_number_changes_no_batch(count, many, storage, tmp_path):
    epochs, steps = 3, 3 * 134 // 8
    hosts = [Host(many, tmp_path, index, count) for index in range(count)]
    options = {"spec": SPEC, "seed": 3, "num_steps": steps}
    found = [host.read(storage, train_batches(host.train, **options, **host.share)) for host in hosts]
    whole = np.concatenate([batches for batches, _ in found], axis=1)
    order = hosts[0].train.order(8)
    at = [(place, epoch_seed(3, epoch), epoch) for epoch in range(epochs) for place in range(134)]
    assert whole.ravel().tolist() == [order.index(*where) for where in at][: 8 * steps]
    assert len(set(whole[0] // 5)) >= 4, "a batch mixes the lanes"
    fetches = [fetches for _, fetches in found]
    assert sum(fetches) <= epochs * (28 + count - 1)
    assert max(fetches) <= epochs * (28 / count + 2)
    last = hosts[-1]
    resumed, _ = last.read(storage, train_batches(last.train, start_step=20, **options, **last.share))
    np.testing.assert_array_equal(resumed, found[-1][0][20:])

    scored = [host.read(storage, eval_batches(host.val, SPEC, **host.share)) for host in hosts]
    assert sorted(np.concatenate([batches for batches, _ in scored], axis=None)) == [-1, -1, *range(134)]
    assert sum(fetches for _, fetches in scored) <= 28 + count - 1
    assert max(fetches for _, fetches in scored) <= 28 / count + 2

"""Records in ``gs://``, ``s3://`` and other remote folders, read through a cache of shards on the local disk.

Every batch of a global shuffle touches many shards, so they are fetched whole, while others are read. Where the cache
holds them all, batches are those of the same records in a local folder. Where it does not, every row of the batches
reads from a lane of its own, one window of shards after another, the next of which is fetched meanwhile (``Order``).
All the lanes' windows together fit the cache of one process, so a run resumes on any number of them. The order then
depends on the batch size and on the size of the cache, too, but still not on who reads or where a run resumes.

Either way each shard is fetched at most once an epoch, by one of the processes that keep a cache each, but for the
windows where the lanes of two of them meet: a window that was read makes room first, and an evaluation in between looks
ahead by few shards, in a lane for each process. Where there are more processes than lanes, those that share a lane
fetch the same shards. (Where the batches being made hold more records than a window, readers outrun the windows, and
shards come again.)
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from adafocus_jax.data.records.order import Order
from adafocus_jax.data.records.reader import RecordSource, read_info, split_shards
from adafocus_jax.data.records.shard_cache import ShardCache, fetch_metadata
from adafocus_jax.data.records.storage import CacheOptions
from adafocus_jax.errors import UserError

log = logging.getLogger(__name__)

Element = TypeVar("Element")

_WINDOW_FRAC = 0.45  # of the cache, for the window that is read, and the same for the next one
_SEQUENTIAL_FRAC = 0.05  # of the cache, the same of a split that is read in order beside one that is shuffled
_DOWNLOADS = 4  # at a time


class RemoteSource(RecordSource):
    """Random access to remote records; a shard is fetched when it is first needed."""

    def __init__(
        self,
        shards: Sequence[tuple[str, int, int]],
        classes: tuple[str, ...],
        max_labels: int,
        traits: dict[str, Any],
        cache: ShardCache,
        shuffled: int,
        look_ahead: int,
    ) -> None:
        """``shards``: as for local records, by file name alone. ``shuffled``: how many of them at a time.

        ``look_ahead``: shards at a time where records are read in their own order.
        """
        located = [(f"{cache.url}/{name}", start, end) for name, start, end in shards]
        super().__init__(located, classes, max_labels, traits)
        self._arguments = (shards, classes, max_labels, traits, cache, shuffled, look_ahead)
        self._cache, self._names = cache, [name for name, _, _ in shards]
        self._lengths = [end - start for _, start, end in shards]
        self._shuffled, self._look_ahead = shuffled, look_ahead
        # Readers are not kept: an open file would take room on the disk after its removal.
        self._open = lambda file: cache.open(file.rpartition("/")[2])

    @property
    def _folder(self) -> Path:
        return self._cache.folder

    def __reduce__(self) -> tuple[Any, ...]:
        return RemoteSource, self._arguments

    def order(self, batch_size: int = 1) -> Order:
        """The order of shuffled epochs: of shards that do not fit, as many lanes as the batch and the cache allow."""
        fits = self._shuffled == len(self._names)
        most = 1 if fits else min(batch_size, self._shuffled)
        lanes = max(n for n in range(1, most + 1) if batch_size % n == 0)
        return Order(self._lengths, self._shuffled // lanes, lanes=lanes, batch_size=batch_size)

    def own_order(self, batch_size: int, processes: int) -> Order:
        """The order without a shuffle: a lane for each process, the records' own for one alone."""
        return Order(self._lengths, self._look_ahead, lanes=processes, batch_size=batch_size)

    def fetching_ahead(
        self,
        elements: Iterator[Element],
        order: Order,
        starts: range,
        rows: range,
        seed_of: Callable[[int], int] | None,
    ) -> Iterator[Element]:
        """Yields the elements, while the shards of the windows being read and of the next ones are fetched.

        A shard that does not come is an error of those who read it.

        Args:
          elements: parts of batches, one after another.
          order: in which their records come.
          starts: the examples at which the batches begin, up to the end of the run.
          rows: of each batch, those in its part.
          seed_of: from the number of an epoch to its seed; None: records in their own order.
        """
        pool, ahead = ThreadPoolExecutor(_DOWNLOADS), list[int]()

        def fetch(shard: int) -> None:
            if shard in ahead:  # Who reads faster than shards come has passed it.
                self._cache.fetch(self._names[shard])

        try:
            for start in starts:
                behind, ahead = ahead, order.shards_ahead(start, starts.stop, rows, seed_of)
                if ahead != behind:
                    self._release(set(behind) - set(ahead))
                    for shard in ahead:
                        pool.submit(fetch, shard)
                yield from itertools.islice(elements, 1)
        finally:
            pool.shutdown(cancel_futures=True)
            if seed_of is None:
                self._release(ahead)

    def _release(self, shards: Iterable[int]) -> None:
        for shard in shards:
            self._cache.release(self._names[shard])


def open_remote(url: str, split: str, options: CacheOptions) -> RemoteSource:
    """Opens a split, or a slice of one, of a remote folder that ``adafocus prepare`` made. Fetches the metadata alone.

    Raises:
      UserError: there are no finished records, no such split, the features are others, the cache is too small for
        two shards, or the metadata do not come.
    """
    url = url.rstrip("/")
    folder, checksums = fetch_metadata(url, options.root)
    info = read_info(folder)
    shards, classes, max_labels, traits = split_shards(info, url, split)
    names = [(file.rpartition("/")[2], start, end) for file, start, end in shards]
    # A split's own shards: those of a validation split are often smaller.
    sizes_gb = {
        name: part.num_bytes / part.num_shards / 1e9
        for part in info.splits.values()
        for name in part.filenames
    }
    shard_gb = max(sizes_gb[name] for name, _, _ in names)
    shuffled = _shards_at_a_time(url, split, len(shards), shard_gb, options.limit_gb)
    look_ahead = min(shuffled, max(1, int(_SEQUENTIAL_FRAC * options.limit_gb / shard_gb)))
    cache = ShardCache(url, folder, checksums, int(options.limit_gb * 1e9))
    return RemoteSource(names, classes, max_labels, traits, cache, shuffled, look_ahead)


def _shards_at_a_time(url: str, split: str, count: int, shard_gb: float, limit_gb: float) -> int:
    fitting = int(_WINDOW_FRAC * limit_gb / shard_gb)
    if count <= 2 * fitting:
        return count
    if not fitting:
        raise UserError(
            f"data.cache_gb {limit_gb:g} does not hold two shards of {url}, of {shard_gb:.3g} GB each: give "
            f"{1.01 * shard_gb / _WINDOW_FRAC:.3g} or more, or prepare with more `shards`"
        )
    log.info(
        "%s, split %s: %.3g GB do not fit in data.cache_gb %g, so up to %d of %d shards at a time are shuffled and "
        "kept (the order of an epoch depends on that number and on the batch size)",
        *(url, split, count * shard_gb, limit_gb, fitting, count),
    )
    return fitting

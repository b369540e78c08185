"""Records in ``gs://``, ``s3://`` and other remote folders, read through a cache of shards on the local disk.

Every batch of a global shuffle touches many shards, so they are fetched whole, while others are read. Where the cache
holds them all, batches are those of the same records in a local folder. Where it does not, the epoch goes through
windows of shards (``Order``), the next of which is fetched meanwhile: the order then depends on the size of the cache,
too, but still not on who reads or where a run resumes. Either way each shard is fetched at most once an epoch: a window
that was read makes room first, and an evaluation in between looks ahead by few shards. (Where the batches being made
hold more records than a window, readers outrun the windows, and shards come again.)
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Iterator, Sequence
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
    """Random access to remote records; a shard is fetched when it is first needed. ``order``: how epochs go."""

    def __init__(
        self,
        shards: Sequence[tuple[str, int, int]],
        classes: tuple[str, ...],
        max_labels: int,
        traits: dict[str, Any],
        cache: ShardCache,
        per_window: int,
        look_ahead: int,
    ) -> None:
        """``shards``: as for local records, by file name alone. ``per_window``: shards that are shuffled together.

        ``look_ahead``: shards of such a window where records are read in their own order.
        """
        located = [(f"{cache.url}/{name}", start, end) for name, start, end in shards]
        super().__init__(located, classes, max_labels, traits)
        self._arguments = (shards, classes, max_labels, traits, cache, per_window, look_ahead)
        self._cache, self._names = cache, [name for name, _, _ in shards]
        lengths = [end - start for _, start, end in shards]
        self.order, self._sequential = Order(lengths, per_window), Order(lengths, look_ahead)
        # Readers are not kept: an open file would take room on the disk after its removal.
        self._open = lambda file: cache.open(file.rpartition("/")[2])

    @property
    def _folder(self) -> Path:
        return self._cache.folder

    def __reduce__(self) -> tuple[Any, ...]:
        return RemoteSource, self._arguments

    def fetching_ahead(
        self, elements: Iterator[Element], places: Iterable[tuple[int, int | None, int | None]]
    ) -> Iterator[Element]:
        """Yields the elements, while the shards of the window being read and of the next one are fetched.

        A shard that does not come is an error of those who read it.

        Args:
          elements: in order.
          places: where each begins in its epoch, and the seeds of that epoch and of the next; no seed: records in
            their own order; no next seed: there is no next epoch.
        """
        pool, now, ahead = ThreadPoolExecutor(_DOWNLOADS), None, list[int]()
        try:
            for place, seed, next_seed in places:
                order = self._sequential if seed is None else self.order
                window = order.window_at(place, seed)
                if now != (seed, window):
                    now, behind = (seed, window), ahead
                    following = [] if next_seed is None else order.windows(next_seed)
                    windows = [*order.windows(seed)[window:], *following][:2]
                    ahead = [shard for window in windows for shard in window.shards]
                    self._release(set(behind) - set(ahead))
                    for shard in ahead:
                        pool.submit(self._cache.fetch, self._names[shard])
                yield from itertools.islice(elements, 1)
        finally:
            pool.shutdown(cancel_futures=True)
            if now is not None and now[0] is None:
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
    per_window = _shards_per_window(url, split, len(shards), shard_gb, options.limit_gb)
    look_ahead = min(per_window, max(1, int(_SEQUENTIAL_FRAC * options.limit_gb / shard_gb)))
    cache = ShardCache(url, folder, checksums, int(options.limit_gb * 1e9))
    return RemoteSource(names, classes, max_labels, traits, cache, per_window, look_ahead)


def _shards_per_window(url: str, split: str, count: int, shard_gb: float, limit_gb: float) -> int:
    fitting = int(_WINDOW_FRAC * limit_gb / shard_gb)
    if count <= 2 * fitting:
        return count
    if not fitting:
        raise UserError(
            f"data.cache_gb {limit_gb:g} does not hold two shards of {url}, of {shard_gb:.3g} GB each: give "
            f"{1.01 * shard_gb / _WINDOW_FRAC:.3g} or more, or prepare with more `shards`"
        )
    log.info(
        "%s, split %s: %.3g GB do not fit in data.cache_gb %g, so %d of %d shards at a time are shuffled and kept (the "
        "order of an epoch depends on that number, which version 0.1 took from the mean over all splits)",
        *(url, split, count * shard_gb, limit_gb, fitting, count),
    )
    return fitting

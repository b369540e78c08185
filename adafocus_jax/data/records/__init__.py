"""Videos as sharded records, local or remote: their schema, how they are written and read, and in which order."""

from typing import TYPE_CHECKING

from adafocus_jax.lazy import lazy_exports

if TYPE_CHECKING:
    from adafocus_jax.data.records.order import Order as Order
    from adafocus_jax.data.records.reader import Record as Record
    from adafocus_jax.data.records.reader import RecordSource as RecordSource
    from adafocus_jax.data.records.reader import open_records as open_records
    from adafocus_jax.data.records.remote import RemoteSource as RemoteSource
    from adafocus_jax.data.records.remote import open_remote as open_remote
    from adafocus_jax.data.records.schema import RecordError as RecordError
    from adafocus_jax.data.records.storage import CacheOptions as CacheOptions
    from adafocus_jax.data.records.writer import ShardWriter as ShardWriter

__all__, __getattr__, __dir__ = lazy_exports(__name__, __file__)

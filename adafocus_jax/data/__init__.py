"""Videos become sharded records (``prepare``), and records become batches (``batches``).

Nothing here starts JAX, so that worker processes stay light. (grain imports it, which does no more than that.)
"""

from typing import TYPE_CHECKING

from adafocus_jax.lazy import lazy_exports

if TYPE_CHECKING:
    from adafocus_jax.data.batches import ArrayVideo as ArrayVideo
    from adafocus_jax.data.batches import ClipSpec as ClipSpec
    from adafocus_jax.data.batches import clip_dataset as clip_dataset
    from adafocus_jax.data.batches import eval_batches as eval_batches
    from adafocus_jax.data.batches import open_data as open_data
    from adafocus_jax.data.batches import read_clip as read_clip
    from adafocus_jax.data.batches import register_transform as register_transform
    from adafocus_jax.data.batches import train_batches as train_batches
    from adafocus_jax.data.datasets import DATASETS as DATASETS
    from adafocus_jax.data.datasets import DatasetSpec as DatasetSpec
    from adafocus_jax.data.datasets import ReadOptions as ReadOptions
    from adafocus_jax.data.datasets import read_dataset as read_dataset
    from adafocus_jax.data.datasets import register_dataset as register_dataset
    from adafocus_jax.data.media import read_video as read_video
    from adafocus_jax.data.records import CacheOptions as CacheOptions
    from adafocus_jax.data.records import open_records as open_records
    from adafocus_jax.data.records import open_remote as open_remote

__all__, __getattr__, __dir__ = lazy_exports(__name__, __file__)

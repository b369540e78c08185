"""The data sets that this method was measured on, and others: their facts, and readers of their annotations."""

from typing import TYPE_CHECKING

from adafocus_jax.lazy import lazy_exports

if TYPE_CHECKING:
    from adafocus_jax.data.datasets.annotations import Entry as Entry
    from adafocus_jax.data.datasets.annotations import read_splits as read_splits
    from adafocus_jax.data.datasets.entries import ReadOptions as ReadOptions
    from adafocus_jax.data.datasets.entries import iter_entry as iter_entry
    from adafocus_jax.data.datasets.entries import read_entry as read_entry
    from adafocus_jax.data.datasets.read import read_dataset as read_dataset
    from adafocus_jax.data.datasets.registry import DATASETS as DATASETS
    from adafocus_jax.data.datasets.registry import dataset_spec as dataset_spec
    from adafocus_jax.data.datasets.registry import register_dataset as register_dataset
    from adafocus_jax.data.datasets.spec import Annotations as Annotations
    from adafocus_jax.data.datasets.spec import DatasetSpec as DatasetSpec
    from adafocus_jax.data.datasets.spec import DatasetTable as DatasetTable
    from adafocus_jax.data.datasets.spec import Row as Row
    from adafocus_jax.data.datasets.spec import Source as Source

__all__, __getattr__, __dir__ = lazy_exports(__name__, __file__)

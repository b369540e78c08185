"""The data sets that this method was measured on, and others: their facts, and readers of their annotations."""

from adafocus_jax.data.datasets.read import read_dataset
from adafocus_jax.data.datasets.registry import DATASETS
from adafocus_jax.data.datasets.spec import DatasetSpec, DatasetTable

__all__ = ["DATASETS", "DatasetSpec", "DatasetTable", "read_dataset"]

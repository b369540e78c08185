"""The data sets that this method was measured on, and others: their facts, and readers of their annotations."""

from adafocus_jax.data.datasets.read import read_dataset
from adafocus_jax.data.datasets.registry import DATASETS, dataset_spec, register_dataset
from adafocus_jax.data.datasets.spec import Annotations, DatasetSpec, DatasetTable, Row, Source

__all__ = [
    "DATASETS",
    "DatasetSpec",
    "DatasetTable",
    "Source",
    "Annotations",
    "Row",
    "dataset_spec",
    "read_dataset",
    "register_dataset",
]

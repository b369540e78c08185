"""Makes records of videos, on one machine or many, and verifies them."""

from adafocus_jax.data.prepare.finish import PrepareSummary
from adafocus_jax.data.prepare.prepare import prepare
from adafocus_jax.data.prepare.verify import Inspection, inspect_records

__all__ = ["Inspection", "PrepareSummary", "inspect_records", "prepare"]

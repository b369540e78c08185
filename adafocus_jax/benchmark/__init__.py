"""What things cost here, part by part, measured beside the usual ways in one run."""

from typing import TYPE_CHECKING

from adafocus_jax.lazy import lazy_exports

if TYPE_CHECKING:
    from adafocus_jax.benchmark.reading import measure_reading as measure_reading
    from adafocus_jax.benchmark.training import measure_training as measure_training

__all__, __getattr__, __dir__ = lazy_exports(__name__, __file__)

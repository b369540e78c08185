"""Scripted hyperparameter sweeps: one folder per trial is the truth, and any number of launchers share it."""

from typing import TYPE_CHECKING

from adafocus_jax.lazy import lazy_exports

if TYPE_CHECKING:
    from adafocus_jax.sweep.folder import SweepFolder as SweepFolder
    from adafocus_jax.sweep.folder import Trial as Trial
    from adafocus_jax.sweep.launcher import Finished as Finished
    from adafocus_jax.sweep.launcher import launch as launch
    from adafocus_jax.sweep.objectives import Objective as Objective
    from adafocus_jax.sweep.objectives import parse_objectives as parse_objectives
    from adafocus_jax.sweep.space import grid as grid
    from adafocus_jax.sweep.space import product as product
    from adafocus_jax.sweep.space import read_sweep as read_sweep
    from adafocus_jax.sweep.space import sampled as sampled
    from adafocus_jax.sweep.space import zipped as zipped
    from adafocus_jax.sweep.trial import run_trial as run_trial

# A launcher watches processes; what they need, it need not load.
__all__, __getattr__, __dir__ = lazy_exports(__name__, __file__)

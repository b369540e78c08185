"""Scripted hyperparameter sweeps: one folder per trial is the truth, and any number of launchers share it."""

from adafocus_jax.sweep.folder import SweepFolder, Trial
from adafocus_jax.sweep.launcher import Finished, launch
from adafocus_jax.sweep.objectives import Objective, parse_objectives
from adafocus_jax.sweep.space import grid, product, read_sweep, sampled, zipped
from adafocus_jax.sweep.trial import run_trial

__all__ = [
    "Finished",
    "Objective",
    "SweepFolder",
    "Trial",
    "grid",
    "launch",
    "parse_objectives",
    "product",
    "read_sweep",
    "run_trial",
    "sampled",
    "zipped",
]

"""Configurations: the published base, a file and flags that change it, and the arguments that come of it.

A config file has a function ``get_config()`` (``get_config(variant)`` for ``FILE:VARIANT``) that returns a changed
``base_config``. It is locked: a misspelt key is an error. Past ``load_config`` all is plain values, which are
saved beside the checkpoints, and from which the other functions here make the arguments of the library.
"""

from adafocus_jax.config.arguments import (
    batch_shapes,
    clip_spec,
    loss_function,
    make_model,
    open_split,
    optimizer_options,
    train_options,
)
from adafocus_jax.config.base import FREE_KEYS, base_config, free_keys, variant_options
from adafocus_jax.config.complete import complete
from adafocus_jax.config.read import check_config, for_classes, load_config, read_config, read_run_config
from adafocus_jax.config.training import run_training

__all__ = [
    "FREE_KEYS",
    "base_config",
    "batch_shapes",
    "check_config",
    "clip_spec",
    "complete",
    "for_classes",
    "free_keys",
    "load_config",
    "loss_function",
    "make_model",
    "open_split",
    "optimizer_options",
    "read_config",
    "read_run_config",
    "run_training",
    "train_options",
    "variant_options",
]

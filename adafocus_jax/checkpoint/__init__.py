"""Checkpoints on disk: saved while training, read back to resume, evaluate and predict."""

from adafocus_jax.checkpoint.convert import convert_state_dict, to_state_dict
from adafocus_jax.checkpoint.manager import Checkpoints
from adafocus_jax.checkpoint.read import (
    FOLDER,
    LoadedCheckpoint,
    checkpoint_folder,
    load_checkpoint,
    require_same_arrays,
)

__all__ = [
    "FOLDER",
    "Checkpoints",
    "LoadedCheckpoint",
    "checkpoint_folder",
    "convert_state_dict",
    "load_checkpoint",
    "require_same_arrays",
    "to_state_dict",
]

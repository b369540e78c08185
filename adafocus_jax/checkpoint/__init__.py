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
from adafocus_jax.checkpoint.rules import CONV, CONV_3D, LINEAR, VECTOR, Names, Rule, register_names

__all__ = [
    "CONV",
    "CONV_3D",
    "FOLDER",
    "Checkpoints",
    "LINEAR",
    "LoadedCheckpoint",
    "Names",
    "Rule",
    "VECTOR",
    "checkpoint_folder",
    "convert_state_dict",
    "load_checkpoint",
    "register_names",
    "require_same_arrays",
    "to_state_dict",
]

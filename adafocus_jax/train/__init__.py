"""Training: the state, the optimizer, the step on all devices, and the loop around it."""

from adafocus_jax.train.initialize import initialize_from
from adafocus_jax.train.loop import TrainingDivergedError, TrainOptions, TrainResult, train
from adafocus_jax.train.optimizer import OptimizerOptions, ParamGroup

__all__ = [
    "OptimizerOptions",
    "ParamGroup",
    "TrainOptions",
    "TrainResult",
    "TrainingDivergedError",
    "initialize_from",
    "train",
]

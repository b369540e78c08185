"""Training: the state, the optimizer, the step on all devices, and the loop around it."""

from adafocus_jax.train.figures import TrainingDivergedError
from adafocus_jax.train.initialize import initialize_from
from adafocus_jax.train.loop import Evaluator, TrainOptions, TrainResult, train
from adafocus_jax.train.optimizer import OptimizerOptions, ParamGroup, register_optimizer

__all__ = [
    "Evaluator",
    "OptimizerOptions",
    "ParamGroup",
    "TrainOptions",
    "TrainResult",
    "TrainingDivergedError",
    "initialize_from",
    "register_optimizer",
    "train",
]

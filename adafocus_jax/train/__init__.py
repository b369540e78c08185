"""Training: the state, the optimizer, the step on all devices, and the loop around it."""

import sys
from types import ModuleType

from adafocus_jax.train.figures import TrainingDivergedError
from adafocus_jax.train.initialize import initialize_from
from adafocus_jax.train.loop import Evaluator, TrainOptions, TrainResult, train
from adafocus_jax.train.optimizer import (
    Optimizer,
    OptimizerOptions,
    ParamGroup,
    make_optimizer,
    register_optimizer,
)
from adafocus_jax.train.state import TrainState, create_state
from adafocus_jax.train.step import TrainStep, make_train_step

__all__ = [
    "Evaluator",
    "Optimizer",
    "OptimizerOptions",
    "ParamGroup",
    "TrainOptions",
    "TrainResult",
    "TrainState",
    "TrainStep",
    "TrainingDivergedError",
    "create_state",
    "initialize_from",
    "make_optimizer",
    "make_train_step",
    "register_optimizer",
    "train",
]


class _CallablePackage(ModuleType):
    """``adafocus_jax.train`` is this package and, by the same name, its function: calling it trains."""

    __call__ = staticmethod(train)


sys.modules[__name__].__class__ = _CallablePackage

"""The learning rate and weight decay of your own data, around those of the base config.

    adafocus sweep sweeps/lr --config configs/custom.py --data records/ --sweep configs/sweeps/learning_rate.py:lr
    adafocus sweep sweeps/lr --config configs/custom.py --data records/ --space configs/sweeps/learning_rate.py \\
        --trials 30 --prune asha --config.train.eval_every=500
"""

from typing import Any

from ml_collections import ConfigDict


def sweep_lr(config: ConfigDict):
    for factor in (0.25, 0.5, 1.0, 2.0, 4.0):
        yield {"optimizer.lr": factor * config.optimizer.lr}


def sweep_weight_decay(config: ConfigDict):
    for factor in (0.1, 1.0, 10.0):
        yield {"optimizer.weight_decay": factor * config.optimizer.weight_decay}


def sweep_seed():
    for seed in range(3):
        yield {"seed": seed}


def suggest(trial: Any, config: ConfigDict) -> dict[str, Any]:
    """Search space of an Optuna trial: rate, decay and dropout."""
    rate, decay = config.optimizer.lr, config.optimizer.weight_decay
    return {
        "optimizer.lr": trial.suggest_float("lr", rate / 10, rate * 10, log=True),
        "optimizer.weight_decay": trial.suggest_float("weight_decay", decay / 10, decay * 10, log=True),
        "model.dropout": trial.suggest_float("dropout", 0.0, 0.6),
    }

"""Where a budget is spent best: patch side against focus frames, as a Pareto front of accuracy and multiply-adds.

    adafocus sweep sweeps/budget --config configs/demo.py --data records/ --space configs/sweeps/patch_budget.py \\
        --trials 12 --objective top1,gflops --sampler nsga2
"""

from typing import Any

from ml_collections import ConfigDict


def suggest(trial: Any, config: ConfigDict) -> dict[str, Any]:
    """Search space of an Optuna trial, around the sizes of the base config."""
    side, frames = config.model.patch_size, config.model.num_focus
    return {
        "model.patch_size": trial.suggest_int("patch_size", side // 2, side * 3 // 2, step=max(1, side // 8)),
        "model.num_focus": trial.suggest_int("num_focus", max(1, frames // 2), frames),
    }

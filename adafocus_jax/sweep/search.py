"""Search spaces: Optuna proposes the next trial from all trials so far, replayed from their folders."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from adafocus_jax.errors import UserError
from adafocus_jax.sweep.folder import SweepFolder, Trial
from adafocus_jax.sweep.objectives import Objective, values_of

SAMPLERS = ("tpe", "nsga2", "random")


def ask(
    sweep: SweepFolder,
    suggest: Callable[[Any], dict[str, Any]],
    objectives: Sequence[Objective],
    *,
    sampler: str,
    seed: int,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The overrides of the next trial, and what was drawn for them. Call it under the sweep's lock.

    The study lives in memory alone: trials that are done, failed, pruned and running (as constant liars) are read from
    the folders, so that nothing else can be lost or damaged.

    Raises:
      UserError: Optuna is not installed, or ``suggest`` fails.
    """
    optuna = _optuna()
    trials = sweep.trials()
    study = optuna.create_study(
        directions=["minimize" if one.minimize else "maximize" for one in objectives],
        sampler=_sampler(optuna, sampler, seed + len(trials)),
    )
    for trial in trials:
        if trial.drawn:
            study.add_trial(_replayed(optuna, trial, objectives))
    asked = study.ask()
    try:
        overrides = dict(suggest(asked))
    except Exception as error:  # whatever the user's function does wrong
        raise UserError(f"suggest(trial) fails: {type(error).__name__}: {error}") from error
    distributions = {
        name: json.loads(optuna.distributions.distribution_to_json(value))
        for name, value in asked.distributions.items()
    }
    return overrides, {"params": asked.params, "distributions": distributions}


def _replayed(optuna: Any, trial: Trial, objectives: Sequence[Objective]) -> Any:
    states = optuna.trial.TrialState
    values = values_of(trial.result, objectives)
    state = {"done": states.COMPLETE, "failed": states.FAIL, "pruned": states.PRUNED}.get(
        trial.state, states.RUNNING
    )
    if state == states.COMPLETE and values is None:
        state = states.FAIL
    finished = state == states.COMPLETE or (
        state == states.PRUNED and values is not None and len(values) == 1
    )
    return optuna.trial.create_trial(
        state=state,
        values=values if finished else None,
        params=trial.drawn["params"],
        distributions={
            name: optuna.distributions.json_to_distribution(json.dumps(value))
            for name, value in trial.drawn["distributions"].items()
        },
    )


def _sampler(optuna: Any, name: str, seed: int) -> Any:
    if name == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    if name == "nsga2":
        return optuna.samplers.NSGAIISampler(seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(seed=seed, constant_liar=True)


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise UserError("a search space needs Optuna: pip install 'adafocus_jax[sweep]'") from error
    optuna.logging.set_verbosity(logging.WARNING)
    return optuna

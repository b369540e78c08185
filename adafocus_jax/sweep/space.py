"""A sweep is Python: functions that yield the settings of one trial after the other."""

from __future__ import annotations

import difflib
import inspect
import itertools
import runpy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from adafocus_jax.config import check_config, read_config
from adafocus_jax.errors import UserError
from adafocus_jax.sweep.overrides import Overrides, describe, flags

PREFIX = "sweep_"
"""``def sweep_NAME()``, or ``def sweep_NAME(config)`` where it needs the base config, yields ``Overrides``."""


def grid(choices: Mapping[str, Iterable[Any]]) -> Iterator[Overrides]:
    """Every combination of the choices, the last key changing fastest.

    >>> list(grid({"optimizer.lr": (0.1, 0.2), "seed": (0, 1)}))[1]
    {'optimizer.lr': 0.1, 'seed': 1}
    """
    for values in itertools.product(*choices.values()):
        yield dict(zip(choices, values, strict=True))


def zipped(choices: Mapping[str, Sequence[Any]]) -> Iterator[Overrides]:
    """The choices side by side: the first value of every key, then the second, …

    >>> list(zipped({"model.patch_size": (96, 128), "optimizer.lr": (0.1, 0.05)}))[1]
    {'model.patch_size': 128, 'optimizer.lr': 0.05}
    """
    for values in zip(*choices.values(), strict=True):
        yield dict(zip(choices, values, strict=True))


def sampled(
    count: int, draw: Callable[[np.random.Generator], Mapping[str, Any]], *, seed: int = 0
) -> Iterator[Overrides]:
    """``count`` random draws; trial i is a function of (seed, i) alone, so that a longer sweep begins alike.

    >>> [trial] = sampled(1, lambda rng: {"optimizer.lr": float(10 ** rng.uniform(-3, -1))})
    >>> 1e-3 <= trial["optimizer.lr"] <= 1e-1
    True
    """
    for number in range(count):
        yield dict(draw(np.random.default_rng((seed, number))))


def product(*sweeps: Iterable[Overrides]) -> Iterator[Overrides]:
    """Every combination of one element of each sweep, the last sweep changing fastest.

    Raises:
      UserError: two sweeps set the same key.
    """
    for parts in itertools.product(*sweeps):
        merged: Overrides = {}
        for part in parts:
            if both := merged.keys() & part.keys():
                raise UserError(f"two of the sweeps set {sorted(both)[0]!r}: sweep it in one of them")
            merged |= part
        yield merged


def read_sweep(text: str, config_file: str) -> list[Overrides]:
    """The trials of ``[FILE:]NAME[,NAME…]``: the product of ``sweep_NAME`` of FILE or of the config file.

    Raises:
      UserError: no such file or function; a function fails, or yields something else than dictionaries.

    Returns:
      What each trial sets, not yet checked against the config.
    """
    file, _, names = text.rpartition(":")
    config_path = config_file.partition(":")[0]
    functions = {**_functions(config_path), **(_functions(file) if file else {})}
    sweeps = []
    for name in filter(None, (name.strip() for name in names.split(","))):
        if name not in functions:
            close = difflib.get_close_matches(name, functions, 1)
            known = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(functions) or 'none'}"
            raise UserError(f"no function {PREFIX}{name} in {file or config_path}: {known}")
        sweeps.append(list(_trials(functions[name], name, config_file)))
    if not sweeps:
        raise UserError(f"sweep {text!r} names no function: give [FILE:]NAME[,NAME...]")
    return list(product(*sweeps))


def check_trials(
    config_file: str, settings: Sequence[str], trials: Sequence[Overrides]
) -> list[dict[str, Any]]:
    """The complete settings of every trial, so that a typo is refused before the first one runs.

    Raises:
      UserError: an unknown key (with the nearest name), a value of another type or out of range; two trials alike.
    """
    complete: list[dict[str, Any]] = []
    for number, overrides in enumerate(trials):
        try:
            complete.append(check_config(read_config(config_file), [*settings, *flags(overrides)]))
        except UserError as error:
            raise UserError(f"trial {number}, {describe(overrides)}: {error}") from error
        if overrides in trials[:number]:
            raise UserError(
                f"trials {list(trials).index(overrides)} and {number} are the same, {describe(overrides)}"
            )
    return complete


def base_config(function: Callable[..., Any], config_file: str, others: int = 0) -> list[ConfigDict]:
    """The base config, for a function that takes one more argument than ``others``; else nothing."""
    return [read_config(config_file)] if len(inspect.signature(function).parameters) > others else []


def load_function(file: str, name: str) -> Callable[..., Any]:
    """The function ``name`` of a Python file.

    Raises:
      UserError: no such file or function, or the file does not load.
    """
    found = _run(file).get(name)
    if not callable(found):
        raise UserError(f"{file} defines no function {name}: see configs/sweeps/ for examples")
    return found


def _functions(file: str) -> dict[str, Callable[..., Any]]:
    return {
        name.removeprefix(PREFIX): value
        for name, value in _run(file).items()
        if name.startswith(PREFIX) and callable(value)
    }


def _run(file: str) -> dict[str, Any]:
    try:
        return runpy.run_path(file)
    except FileNotFoundError as error:
        raise UserError(f"no such file: {file!r}") from error
    except Exception as error:  # whatever the file does wrong; --debug shows where
        raise UserError(f"{file} does not load: {type(error).__name__}: {error}") from error


def _trials(function: Callable[..., Any], name: str, config_file: str) -> Iterator[Overrides]:
    try:
        for trial in function(*base_config(function, config_file)):
            if not isinstance(trial, Mapping):
                raise TypeError(f"it yields {trial!r}, not a dictionary of config keys")
            yield dict(trial)
    except UserError:
        raise
    except Exception as error:  # whatever the function does wrong
        raise UserError(f"{PREFIX}{name} fails: {type(error).__name__}: {error}") from error

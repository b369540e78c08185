"""Modules of the user's own: whatever builds or reads something imports them first, in every process of a command."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable

from adafocus_jax.errors import UserError

VARIABLE = "ADAFOCUS_PLUGINS"
"""Environment variable with names of modules, commas between them: of commands without a configuration, and of worker
processes, which inherit it."""


def import_plugins(modules: Iterable[str]) -> None:
    """Imports modules that register encoders, loss terms, data sets and the like, here and in worker processes to come.

    Args:
      modules: dotted names, as ``import`` takes them.

    Raises:
      UserError: one is not there, or fails as it is imported.
    """
    modules = [name for name in modules if name]
    for name in modules:
        try:
            importlib.import_module(name)
        except UserError as error:
            raise UserError(f"plugin {name}: {error}") from error
        except Exception as error:  # whatever the module does wrong; --debug shows where
            text = " ".join(str(error).split())
            hint = "install it, or add its folder to PYTHONPATH"
            if isinstance(error, ModuleNotFoundError) and name.split(".")[0] == error.name:
                raise UserError(f"no plugin {name!r}: {hint}") from error
            raise UserError(f"plugin {name} does not load: {type(error).__name__}: {text}") from error
    if modules:
        os.environ[VARIABLE] = ",".join(dict.fromkeys([*_inherited(), *modules]))


def import_inherited_plugins() -> None:
    """Imports the modules that the environment names."""
    import_plugins(_inherited())


def _inherited() -> list[str]:
    return [name.strip() for name in os.environ.get(VARIABLE, "").split(",")]

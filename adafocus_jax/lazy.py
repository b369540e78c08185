"""Packages whose public names load when they are first used (PEP 562), so that importing one costs next to nothing."""

from __future__ import annotations

import ast
import difflib
import importlib
import sys
from collections.abc import Callable
from typing import Any, NamedTuple


class LazyExports(NamedTuple):
    """What a package's ``__init__`` assigns to its special names."""

    all: list[str]
    getattr: Callable[[str], Any]
    dir: Callable[[], list[str]]


def lazy_exports(package: str, file: str) -> LazyExports:
    """Exports what the ``if TYPE_CHECKING:`` block of a package's ``__init__`` imports, each name on its first use.

    Type checkers read the same block, so that every public name is written down once:

        if TYPE_CHECKING:
            from adafocus_jax.models import create_model as create_model

        __all__, __getattr__, __dir__ = lazy_exports(__name__, __file__)

    Args:
      package: ``__name__`` of the package.
      file: its ``__file__``.

    Returns:
      ``__all__``, ``__getattr__`` and ``__dir__``. Names of submodules resolve too; an unknown one is an
      ``AttributeError`` that suggests the nearest.
    """
    with open(file, encoding="utf-8") as source:
        modules = _type_checking_imports(source.read())

    def load(name: str) -> Any:
        if modules.get(name) in (package, f"{package}.{name}"):
            return importlib.import_module(f"{package}.{name}")  # The name of a submodule is the submodule.
        if name in modules:
            value = getattr(importlib.import_module(modules[name]), name)
            setattr(sys.modules[package], name, value)
            return value
        if not name.startswith("_") and (submodule := _import_submodule(package, name)):
            return submodule
        near = difflib.get_close_matches(name, modules, 1)
        hint = f": did you mean {near[0]!r}?" if near else f"; it exports {', '.join(sorted(modules))}"
        raise AttributeError(f"module {package!r} has no attribute {name!r}{hint}", name=name)

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *modules})

    return LazyExports(sorted(modules), load, names)


def _type_checking_imports(source: str) -> dict[str, str]:
    """Name to module of the ``from module import name as name`` lines under ``if TYPE_CHECKING:``."""
    blocks = (
        node.body
        for node in ast.parse(source).body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    imports = (node for body in blocks for node in body if isinstance(node, ast.ImportFrom))
    return {alias.name: str(node.module) for node in imports for alias in node.names}


def _import_submodule(package: str, name: str) -> Any:
    try:
        return importlib.import_module(f"{package}.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"{package}.{name}":
            raise  # A dependency of it is missing.
        return None

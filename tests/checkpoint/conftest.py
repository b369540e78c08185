"""The release in PyTorch, and random weights for it."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

PACKAGE = Path(__file__).with_name("torch_release")


@pytest.fixture(scope="session")
def release() -> ModuleType:
    """``torch_release`` as a module; tests are imported without packages, so it has no name to import it by."""
    pytest.importorskip("torch", reason="parity tests need PyTorch (pip install torch)")
    if PACKAGE.name not in sys.modules:
        spec = importlib.util.spec_from_file_location(PACKAGE.name, PACKAGE / "__init__.py")
        sys.modules[PACKAGE.name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[PACKAGE.name])
    return sys.modules[PACKAGE.name]

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

TOY = Path(__file__).with_name("toy.py")


def load_toy() -> ModuleType:
    """``toy.py`` as a module; tests are imported without packages, so it has no name to import it by."""
    if "adafocus_toy" not in sys.modules:
        spec = importlib.util.spec_from_file_location("adafocus_toy", TOY)
        sys.modules["adafocus_toy"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["adafocus_toy"])
    return sys.modules["adafocus_toy"]


@pytest.fixture(scope="session")
def toy() -> ModuleType:
    return load_toy()


@pytest.fixture(scope="session")
def toy_script() -> Path:
    return TOY

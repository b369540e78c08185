"""Sweeps of the stub."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest

from adafocus_jax.sweep import SweepFolder

STUB = Path(__file__).with_name("stub.py")
SPEC = {"config": "x.py", "settings": [], "sweep": "lr", "space": "", "objectives": ["top1"], "launch": []}


@pytest.fixture(scope="session")
def stub() -> Callable:
    spec = importlib.util.spec_from_file_location("sweep_stub", STUB)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.stub


@pytest.fixture
def make_sweep(tmp_path) -> Callable[..., SweepFolder]:
    def make(*overrides: dict, name: str = "sweep", **spec) -> SweepFolder:
        sweep = SweepFolder(tmp_path / name)
        sweep.create({**SPEC, **spec})
        with sweep.lock():
            for one in overrides:
                sweep.add(one)
        return sweep

    return make

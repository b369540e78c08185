"""A golden input and its output for each model of an export, by which whoever runs it elsewhere can check it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from adafocus_jax.safetensors import write_arrays

GOLDEN = "golden-{stage}.safetensors"
"""Name of the file; arrays in it are called ``inputs/…`` and ``outputs/…``."""


def write_golden(
    folder: Path,
    stage: str,
    run: Callable[[Any, dict[str, Any]], Mapping[str, Any]],
    weights: Any,
    inputs: Mapping[str, jax.ShapeDtypeStruct],
) -> str:
    """Writes a random row of ``inputs``, and what ``run(weights, …)`` makes of it here; returns the file's name."""
    rng = np.random.default_rng(0)
    given = {}
    for name, shape in inputs.items():
        if shape.dtype == np.uint8:
            given[name] = rng.integers(0, 256, (1, *shape.shape), dtype=np.uint8)
        elif name == "boxes":
            side = inputs["frames"].shape[-2]
            given[name] = np.tile(np.array([0, 0, side / 2, side], np.float32), (1, *shape.shape[:-1], 1))
        else:
            given[name] = rng.random((1, *shape.shape)).astype(shape.dtype)
    found = jax.jit(lambda *args: run(*args))(weights, given)  # programs are not hashable
    arrays = {f"inputs/{name}": value for name, value in given.items()}
    arrays |= {f"outputs/{name}": np.asarray(value) for name, value in found.items()}
    file = GOLDEN.format(stage=stage)
    write_arrays(folder / file, arrays)
    return file

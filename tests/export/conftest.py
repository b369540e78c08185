"""A run of each kind of model, tiny, with random weights and norm statistics, and clips for them."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from adafocus_jax.benchmark.inference import random_variables
from adafocus_jax.checkpoint import Checkpoints
from adafocus_jax.config import base_config, check_config, for_classes, make_model
from adafocus_jax.early_exit import ExitPolicy
from adafocus_jax.evaluate.exits import store_policies
from adafocus_jax.types import VideoBatch

CLASSES = ("kick", "run", "walk")
SIZES = {"num_glance": 4, "num_candidates": 8, "num_focus": 3, "image_size": 32, "glance_size": 16}
SIZES |= {"patch_size": 16, "policy_hidden": 4, "temporal_hidden": 4}
KINDS = {
    "uni_adafocus_tiny": {**SIZES, "classifier_hidden": 8},
    "uni_adafocus_tsm_tiny": SIZES,
    "uni_adafocus_x3d_tiny": SIZES,
    "tsm_tiny": {"num_candidates": 2, "image_size": 16},
}


@dataclass
class Run:
    workdir: Path
    model: Any
    variables: Any

    def batch(self, count: int) -> VideoBatch:
        """Random clips."""
        side, rng = (self.model.image_size,) * 2, np.random.default_rng(count)

        def frames(number):
            return rng.integers(0, 256, (count, number, *side, 3), dtype=np.uint8)

        glance = self.model.num_separate_glance
        return VideoBatch(frames(self.model.num_candidates), frames(glance) if glance else None)

    @cached_property
    def apply(self):
        return jax.jit(lambda batch: self.model.apply(self.variables, batch))


def save_run(workdir: Path, name: str) -> Run:
    config = base_config(name)
    config.model.update(KINDS[name])
    settings = for_classes(check_config(config), CLASSES)
    model = make_model(settings)
    variables = random_variables(model)
    with Checkpoints(workdir / "checkpoints", settings) as checkpoints:
        checkpoints.save(0, {"step": np.zeros((), np.int32), **variables})
    exits = 1 + (0 if name == "tsm_tiny" else 3 if name == "uni_adafocus_tiny" else 1)
    if exits > 1:
        policy = ExitPolicy("confidence", (0.9,) * (exits - 1) + (-1e8,), 0.5, "train", 9, 0.7)
        store_policies(workdir / "checkpoints", [policy])
    return Run(workdir, model, variables)


@pytest.fixture(scope="session", params=KINDS)
def run(request, tmp_path_factory) -> Run:
    return save_run(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="session")
def uni(tmp_path_factory) -> Run:
    return save_run(tmp_path_factory.mktemp("uni"), "uni_adafocus_tiny")


def error(actual, expected) -> float:
    """The largest difference, relative to the largest value."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    assert actual.shape == expected.shape
    return np.abs(actual - expected).max() / np.abs(expected).max()

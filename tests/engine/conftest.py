"""Small models of every kind with random weights, their engines, and clips for them. Engines are compiled once."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import numpy as np
import pytest

from adafocus_jax.benchmark.inference import random_variables
from adafocus_jax.engine import Engine, Request
from adafocus_jax.models import create_model
from adafocus_jax.types import VideoBatch

SMALL = {
    "num_glance": 4,
    "num_candidates": 8,
    "num_focus": 5,
    "image_size": 32,
    "glance_size": 16,
    "patch_size": 16,
}
SMALL |= {"policy_hidden": 8, "temporal_hidden": 8}
VIDEOS, CLASSES = 12, 5


@dataclass
class Case:
    model: Any
    buckets: dict[str, tuple[int, ...]]

    @cached_property
    def variables(self):
        return random_variables(self.model)

    @cached_property
    def clips(self):
        shape = (VIDEOS, self.model.num_candidates, *(self.model.image_size,) * 2, 3)
        return np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)

    @cached_property
    def glances(self):
        if self.model.num_separate_glance is None:
            return (
                self.clips
                if self.model.glance_candidates is None
                else self.clips[:, self.model.glance_candidates]
            )
        return self.clips[:, : self.model.num_separate_glance] // 2

    @cached_property
    def expected(self):
        """What the model itself says of all clips."""
        glance = self.glances if self.model.num_separate_glance else None
        out = jax.jit(lambda v, b: self.model.apply(v, b))(self.variables, VideoBatch(self.clips, glance))
        return jax.tree.map(np.asarray, out)

    def make(self, **arguments):
        arguments = {"buckets": self.buckets, "devices": jax.devices()[:1], "max_in_flight": 7, **arguments}
        return Engine(self.model, self.variables, **arguments)

    @cached_property
    def engine(self):
        engine = self.make()
        engine.warm_up()
        return engine

    def request(self, number):
        return Request(number, self.glances[number], self.clips[number])


def _case(name, buckets, **arguments):
    return Case(create_model(name, num_classes=CLASSES, **arguments), buckets)


@pytest.fixture(scope="session")
def uni():
    buckets = {"glance": (3,), "choose": (2,), "look": (4,)}
    return _case("uni_adafocus_tiny", buckets, classifier_hidden=16, **SMALL)


@pytest.fixture(scope="session")
def tsm():
    buckets = {"glance": (3,), "choose": (2,), "look": (2,)}
    return _case("uni_adafocus_tsm_tiny", buckets, **SMALL)


@pytest.fixture(scope="session")
def plain():
    return _case("tsm_tiny", {"glance": (4,)}, num_candidates=2, image_size=16)


@pytest.fixture(scope="session", params=["uni", "tsm", "plain"])
def case(request):
    return request.getfixturevalue(request.param)

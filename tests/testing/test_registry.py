"""Every part that this package ships keeps the rules that it asks of others."""

from functools import partial

import pytest

from adafocus_jax.config.recipes import family_groups
from adafocus_jax.early_exit import CRITERIA
from adafocus_jax.models import ENCODERS, HEADS, MODELS, create_model
from adafocus_jax.testing import check_encoder, check_exit_criterion, check_head, check_model

SIZES = {
    "num_glance": 2,
    "num_candidates": 4,
    "num_focus": 2,
    "image_size": 32,
    "glance_size": 16,
    "patch_size": 16,
    "side_limits": (0.3, 0.75),
    "policy_hidden": 8,
    "temporal_hidden": 8,
}


@pytest.mark.parametrize("name", [name for name in ENCODERS if name.endswith("_tiny")])
def test_encoder(name):
    check_encoder(ENCODERS[name], (2, 3, 24, 24, 3))


@pytest.mark.parametrize("name", HEADS)
def test_head(name):
    check_head(HEADS[name])


@pytest.mark.parametrize("name", [name for name in MODELS if name.endswith("_tiny")])
def test_model(name):
    sizes = SIZES if name.startswith("uni") else {"num_candidates": 3, "image_size": 24}
    check_model(partial(create_model, name, num_classes=3, **sizes), groups=family_groups(name).values())


@pytest.mark.parametrize("name", CRITERIA)
def test_exit_criterion(name):
    check_exit_criterion(CRITERIA[name])

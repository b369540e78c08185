"""The published cost table, counted from the registered models (its other variants: test_configs)."""

from functools import cache

import pytest

from adafocus_jax.flops import ModelCost, model_cost
from adafocus_jax.models import create_model


@cache
def cost_of(name: str, **arguments) -> ModelCost:
    classes = {"uni_adafocus": 200, "uni_adafocus_tsm": 174, "two_stream_tsm": 174}.get(name, 400)
    return model_cost(create_model(name, num_classes=classes, **arguments))


def digits(value: float, published: str) -> str:
    """``value``, printed to as many digits as ``published``."""
    return f"{value / 1e9:.{len(published.split('.')[1])}f}"


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("uni_adafocus", "0.31", "27.2"),
        ("uni_adafocus_tsm", "2.4", "18.8"),
        ("uni_adafocus_x3d", "2.4", "8.8"),
        ("two_stream_tsm", "2.4", "35.1"),
        ("tsm_resnet50", "32.7", "32.7"),
        ("x3d_s", "1.96", "1.96"),
        ("x3d_m", "4.73", "4.73"),
        ("x3d_l", "18.37", "18.37"),
    ],
)
def test_published_cost(name, first, last):
    exits = cost_of(name).exits
    assert digits(exits[0], first) == first
    assert digits(exits[-1], last) == last
    assert list(exits) == sorted(exits)


@pytest.mark.parametrize(
    ("name", "spatial", "temporal"),
    [
        ("uni_adafocus", "0.8225", "0.0041"),
        ("uni_adafocus_tsm", "0.4112", "0.0021"),
        ("uni_adafocus_x3d", "0.3762", "0.0015"),
    ],
)
def test_published_cost_of_policies(name, spatial, temporal):
    parts = cost_of(name).parts
    assert digits(parts["spatial_policy"], spatial) == spatial
    assert digits(parts["temporal_policy"], temporal) == temporal


def test_published_parts_of_x3d():
    parts = cost_of("uni_adafocus_x3d").parts
    assert digits(parts["global_encoder"] + parts["glance_classifier"], "2.42") == "2.42"
    assert digits(parts["local_encoder"] + parts["focus_classifier"], "5.98") == "5.98"
    assert digits(parts["spatial_policy"] + parts["temporal_policy"], "0.38") == "0.38"


def test_the_last_glance_exit_of_uni_adafocus_costs_the_whole_glance():
    cost = cost_of("uni_adafocus")
    assert digits(cost.exits[15], "4.89") == "4.89"
    assert cost.parts["glance_head"] == 0


def test_policies_that_do_not_run_cost_nothing():
    whole = cost_of("uni_adafocus_tsm_tiny")
    control = cost_of("uni_adafocus_tsm_tiny", spatial="centre", temporal="uniform")
    policies = whole.parts["spatial_policy"] + whole.parts["temporal_policy"]
    assert control.exits[-1] == whole.exits[-1] - policies
    assert whole.exits[-1] == sum(whole.parts.values())

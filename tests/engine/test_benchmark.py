"""The benchmark of the engine: imposed exits, and figures that fit together."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adafocus_jax.benchmark.inference import ImposedExits, measure_inference, shares_for_budget
from adafocus_jax.early_exit import exit_shares
from adafocus_jax.errors import UserError
from adafocus_jax.flops import model_cost


@given(st.floats(0.02, 50), st.integers(2, 9), st.lists(st.integers(1, 7), min_size=30, max_size=60))
def test_exits_are_imposed_in_the_shares_asked_for(q, exits, groups):
    shares = exit_shares(q, exits).astype(np.float64)
    rule, left = ImposedExits(shares), np.zeros(exits)
    for count in groups:
        for exit_ in range(exits):
            leaving = int(rule.leaves(np.zeros((count, exit_ + 1, 3))).sum()) if count else 0
            left[exit_] += leaving
            count -= leaving
        assert count == 0
    total = sum(groups)
    assert np.abs(left - shares / shares.sum() * total).max() <= exits


@given(st.floats(0.3, 0.95))
def test_shares_meet_their_budget(budget):
    costs = np.array([1.0, 2.0, 3.0, 4.0])
    assert shares_for_budget(costs, budget) @ costs == pytest.approx(4 * budget, rel=1e-3)


@pytest.mark.parametrize("budget", [0.25, 0.1, 1.0])
def test_a_budget_out_of_reach_is_refused(budget):
    with pytest.raises(UserError, match=r"above 0\.25, the first exit's, and below 1"):
        shares_for_budget(np.array([1.0, 4.0]), budget)


def test_figures_fit_together(uni):
    figures = measure_inference(uni.engine, in_flight=(1, 5), budgets=(0.7,), seconds=0.3)
    assert [(run["in_flight"], run["budget"]) for run in figures["runs"]] == [
        (1, "none"),
        (1, "0.7"),
        (5, "none"),
        (5, "0.7"),
    ]
    full = model_cost(uni.model).exit_gflops[-1]
    for run in figures["runs"]:
        assert run["videos"] >= max(4, run["in_flight"])
        assert run["errors"] == 0
        assert 0 < run["latency_ms"]["p50"] <= run["latency_ms"]["p95"]
        assert run["scheduler_efficiency"] > 0
        assert 0 <= run["pixel_wait_frac"] <= 1
        mean = 1.0 if run["budget"] == "none" else 0.7
        assert run["mean_gflops"] == pytest.approx(mean * full, rel=0.1)
        assert run["speedup_macs"] == pytest.approx(full / run["mean_gflops"])
    assert set(figures["stages"]) == {"glance", "choose", "look"}
    assert {"cpu", "jax", "device"} <= figures["host"].keys()
    json.dumps(figures)


def test_a_model_of_one_exit_has_no_budgets(plain):
    figures = measure_inference(plain.engine, in_flight=(2,), seconds=0.1)
    assert [run["budget"] for run in figures["runs"]] == ["none"]
    with pytest.raises(UserError, match=r"in_flight=\[0\]"):
        measure_inference(plain.engine, in_flight=(0,))

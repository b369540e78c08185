import numpy as np
import pytest

from adafocus_jax.early_exit import choose_policy, parse_budget, solve_policy
from adafocus_jax.errors import UserError

QS = (0.3, 1.0, 3.0)


@pytest.fixture(scope="module")
def policies():
    logits = np.random.default_rng(0).standard_normal((60, 3, 4)).astype(np.float32)
    costs = np.array([1.0, 2.0, 4.0])
    return [
        solve_policy(logits, costs, q, criterion=criterion, calibration_split="train")
        for criterion in ("entropy", "margin")
        for q in QS
    ]


def test_a_budget_takes_the_most_expensive_policy_that_it_affords(policies):
    fractions = sorted(policy.cost_frac for policy in policies if policy.criterion == "margin")
    for frac in fractions:
        assert choose_policy(policies, "margin", frac).cost_frac == frac
        assert choose_policy(policies, "margin", min(1.0, frac + 1e-6)).criterion == "margin"
    assert choose_policy(policies, "margin", 1.0).cost_frac == fractions[-1]


def test_a_share_takes_the_policy_solved_for_it(policies):
    assert choose_policy(policies, "entropy", q=0.3).q == 0.3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"budget_frac": 0.1},
            r"already takes 0.\d\d .* the stored policies spend from 0.\d\d to 0.\d\d",
        ),
        ({"budget_frac": 1.5}, "above 0 and up to 1"),
        ({"q": 0.5}, "choose one of 0.3, 1, 3"),
        ({"criterion": "luck"}, "choose from confidence"),
        ({"criterion": "patience"}, "no early-exit policy of criterion 'patience'"),
    ],
)
def test_what_no_stored_policy_meets_is_refused_with_what_they_do(policies, arguments, message):
    with pytest.raises(UserError, match=message):
        choose_policy(policies, **{"criterion": "entropy", **arguments})


@pytest.mark.parametrize("budget", ["0", "-1", "much", "", "nan", "1..2", 0.0, "3 kG"])
def test_a_budget_that_is_no_cost_is_refused(budget):
    with pytest.raises(UserError, match="such as 10G"):
        parse_budget(budget, 20.0)

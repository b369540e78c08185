import numpy as np
import pytest

from adafocus_jax.errors import UserError
from adafocus_jax.predict.exit_policy import budget_share, find_policy

COSTS = np.array([1.0, 1.0, 3.0, 4.0, 8.0, 10.0])


def test_the_stored_policy_that_serves(run):
    folder = run / "checkpoints"
    assert find_policy(folder, COSTS) is None
    assert [find_policy(folder, COSTS, budget=budget).q for budget in (0.3, 0.69, 0.7, "7G", 7.5)] == [
        0.1,
        0.1,
        0.5,
        0.5,
        0.5,
    ]
    assert find_policy(folder, COSTS, exit_share=0.5).q == 0.5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"budget": 0.2}, "already takes 0.30 of the full cost"),
        ({"budget": 0.5, "exit_share": 0.5}, "exclude each other"),
        ({"exit_share": 0.3}, r"exit_share=0.3: thresholds by confidence are stored for 0\.1, 0\.5"),
        ({"budget": 0.5, "criterion": "entropy"}, "no exit thresholds by entropy are stored"),
    ],
)
def test_where_none_serves_the_message_says_which_would(run, settings, message):
    with pytest.raises(UserError, match=message):
        find_policy(run / "checkpoints", COSTS, **settings)


@pytest.mark.parametrize("budget", [0, -1, 11, "0.5%", "G", "nan", "", "1e", "11g"])
def test_no_budget(budget):
    with pytest.raises(
        UserError, match=r"give a share of the full cost in \(0, 1\], or giga multiply-adds up to 10"
    ):
        budget_share(budget, COSTS)

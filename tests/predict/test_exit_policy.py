import pytest

from adafocus_jax.errors import UserError
from adafocus_jax.predict.exit_policy import find_policy

FULL_GFLOPS = 10.0


def test_the_stored_policy_that_serves(run):
    folder = run / "checkpoints"
    assert find_policy(folder, FULL_GFLOPS) is None
    assert [find_policy(folder, FULL_GFLOPS, budget=budget).q for budget in (0.3, 0.69, 0.7, "7G", 7.5)] == [
        0.1,
        0.1,
        0.5,
        0.5,
        0.5,
    ]
    assert find_policy(folder, FULL_GFLOPS, exit_share=0.5).q == 0.5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"budget": 0.2}, "already takes 0.30 of the full cost"),
        ({"budget": 0.5, "exit_share": 0.5}, "exclude each other"),
        ({"exit_share": 0.3}, r"q = 0\.3: no stored policy was solved for it; choose one of 0\.1, 0\.5"),
        ({"budget": 0.5, "criterion": "entropy"}, "no early-exit policy of criterion 'entropy' is stored"),
    ],
)
def test_where_none_serves_the_message_says_which_would(run, settings, message):
    with pytest.raises(UserError, match=message):
        find_policy(run / "checkpoints", FULL_GFLOPS, **settings)


def test_a_run_without_thresholds_says_how_to_get_some(tmp_path):
    with pytest.raises(UserError, match="adafocus evaluate --early-exit solves and stores them"):
        find_policy(tmp_path, FULL_GFLOPS, budget=0.5)

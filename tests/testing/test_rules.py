import numpy as np
import pytest

from adafocus_jax.testing.rules import RuleBrokenError, assert_close, rule


def test_a_message_names_part_rule_and_shapes():
    x = {"a": np.zeros((2, 3), np.float32), "b": np.int8(1)}
    with pytest.raises(RuleBrokenError) as caught, rule("encoder X", "is finite", frames=x, labels=x["b"]):
        raise ValueError("not at all")
    assert str(caught.value) == (
        "encoder X breaks the rule 'is finite'\n"
        "  tried with frames a=float32[2,3] b=int8[], labels int8[]\n"
        "  ValueError: not at all"
    )
    assert caught.value.rule == "is finite"


def test_closeness_is_relative_to_the_largest_value_and_exact_for_integers():
    assert_close({"x": np.array([100.0, 0.009])}, {"x": np.array([100.0, 0.0])}, 1e-4)
    with pytest.raises(AssertionError, match=r"x: differs by up to 0\.02 where values reach 100"):
        assert_close({"x": np.array([100.0, 0.02])}, {"x": np.array([100.0, 0.0])}, 1e-4)
    with pytest.raises(AssertionError, match=r"25\.0% of int64\[4\] differ"):
        assert_close(np.array([1, 2, 3, 5]), np.array([1, 2, 3, 4]), 0.5)
    with pytest.raises(AssertionError, match="float32"):
        assert_close(np.zeros(2, np.float32), np.zeros(2), 1.0)
    with pytest.raises(AssertionError):
        assert_close(np.array([np.nan]), np.array([1.0]), 1.0)

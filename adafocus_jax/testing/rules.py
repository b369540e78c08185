"""What the checks are made of: rules that name the shapes they were tried with, comparisons that say what differs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import chex
import jax
import numpy as np


class RuleBrokenError(AssertionError):
    """A part breaks a rule. The message names the part, the rule and the shapes that it was tried with."""

    def __init__(self, part: str, rule: str, shapes: str, reason: str) -> None:
        super().__init__(f"{part} breaks the rule {rule!r}\n  tried with {shapes}\n  {reason}")
        self.rule = rule


@contextlib.contextmanager
def rule(part: str, name: str, **tried: Any) -> Iterator[None]:
    """Turns whatever fails inside into a ``RuleBrokenError``.

    Args:
      part: what is checked.
      name: the rule, as one reads it in the message.
      **tried: name to array or tree of arrays, whose shapes and dtypes the message shows.
    """
    try:
        yield
    except Exception as error:
        shapes = ", ".join(f"{key} {describe(value)}" for key, value in tried.items())
        raise RuleBrokenError(part, name, shapes, f"{type(error).__name__}: {error}") from error


def describe(tree: Any) -> str:
    """Shapes and dtypes of a tree of arrays in one line.

    >>> describe({"x": np.zeros((2, 3)), "y": (None, np.int8(1))})
    'x=float64[2,3] y/1=int8[]'
    """
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return " ".join(f"{path_of(path)}{'=' if path else ''}{_signature(leaf)}" for path, leaf in leaves)


def path_of(path: Any) -> str:
    """The "/"-joined path of a leaf, as optimizer groups match it."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _signature(leaf: Any) -> str:
    dtype, shape = getattr(leaf, "dtype", type(leaf).__name__), getattr(leaf, "shape", ())
    return f"{dtype}[{','.join(map(str, shape))}]"


def assert_close(actual: Any, expected: Any, relative: float) -> None:
    """Asserts equal structures, shapes and dtypes, and differences within ``relative`` of a leaf's largest value.

    Integers and booleans are to be equal.
    """
    chex.assert_trees_all_equal_shapes_and_dtypes(actual, expected)

    def compare(path: Any, one: Any, other: Any) -> None:
        one, other = np.asarray(one), np.asarray(other)
        if one.dtype.kind in "iub":
            wrong = float(np.mean(one != other))
            assert not wrong, f"{path_of(path) or 'output'}: {wrong:.1%} of {_signature(other)} differ"
            return
        one, other = one.astype(np.float64), other.astype(np.float64)
        difference, scale = np.abs(one - other).max(initial=0), np.abs(other).max(initial=0)
        assert difference <= relative * scale, (
            f"{path_of(path) or 'output'}: differs by up to {difference:.3g} where values reach {scale:.3g}"
        )

    jax.tree_util.tree_map_with_path(compare, actual, expected)


def assert_equal(actual: Any, expected: Any) -> None:
    """Asserts that two trees of arrays agree to the last bit."""
    assert_close(actual, expected, 0.0)

import importlib.util

import pytest

from adafocus_jax.errors import UserError
from adafocus_jax.plan.chips import open_topology


@pytest.mark.parametrize(
    "name", ["v5e", "v5e:", "v9:2x2", "v5e:0x4", "v5e:4×4", "v5e:4x4x4", "v4:2x2", "4x4"]
)
def test_unknown_topology_lists_valid_forms(name):
    with pytest.raises(UserError, match=r"v4, v5e, v5p, v6e.*v5e:4x4"):
        open_topology(name)


def test_missing_compiler_names_the_extra(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"adafocus_jax\[tpu\]"):
        open_topology("v5e:2x2")


@pytest.mark.parametrize(("name", "count"), [("v4:2x2x1", 4), ("v5e:4x4", 16), ("v6e:1x1", 1)])
def test_a_slice_has_one_device_per_chip(name, count):
    pytest.importorskip("libtpu", reason="needs the extra tpu")
    assert len(open_topology(name).devices) == count


def test_a_shape_that_no_slice_has():
    pytest.importorskip("libtpu", reason="needs the extra tpu")
    with pytest.raises(UserError, match="no topology 'v5e:3x3'"):
        open_topology("v5e:3x3")

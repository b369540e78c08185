import logging
from pathlib import Path

import jax
import numpy as np
import pytest

from adafocus_jax.checkpoint import Checkpoints
from adafocus_jax.errors import UserError
from adafocus_jax.models import create_model, init_variables
from adafocus_jax.train.initialize import class_arrays, initialize_from

HEADS = {f"params/{layer}" for layer in ("proxy_head/kernel", "proxy_head/bias")} | {
    f"params/{encoder}_head/linear/{leaf}" for encoder in ("global", "local") for leaf in ("kernel", "bias")
}


def model(classes=3, **arguments):
    return create_model("uni_adafocus_tiny", num_classes=classes, **arguments)


def variables(model, value):
    shapes = jax.eval_shape(lambda: init_variables(model, jax.random.key(0)))
    return jax.tree.map(lambda x: np.full(x.shape, value, x.dtype), shapes)


@pytest.fixture(scope="module")
def old(tmp_path_factory) -> Path:
    """A checkpoint of ones, with three classes."""
    workdir = tmp_path_factory.mktemp("old")
    with Checkpoints(workdir / "checkpoints", {"classes": ["a", "b", "c"]}) as checkpoints:
        checkpoints.save(7, {"step": np.int32(7), **variables(model(), 1.0)})
    return workdir


def values(tree):
    """Path to the one value of the array there."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): np.unique(x).item() for path, x in leaves}


def test_all_is_taken_where_the_classes_are_the_same(old, caplog):
    caplog.set_level(logging.INFO)
    found = values(initialize_from(old, model(), ["a", "b", "c"], variables(model(), 0.0)))
    assert set(found.values()) == {1}
    assert f"initialised from {old} (step 7): {len(found)} arrays taken" in caplog.text
    assert "anew" not in caplog.text


@pytest.mark.parametrize("classes", [["a", "b", "c", "d"], ["b", "a", "c"]])
def test_heads_are_dropped_where_they_are_not_and_the_log_names_them(old, caplog, classes):
    caplog.set_level(logging.INFO)
    new = model(len(classes))
    found = values(initialize_from(old, new, classes, variables(new, 0.0)))
    dropped = {name for name, value in found.items() if value == 0}
    assert dropped == class_arrays(new) > HEADS
    assert all("classifier" in name and "heads" in name for name in dropped - HEADS)
    assert "its 3 classes are not the" in caplog.text
    assert "anew: params/classifier/focus_heads/bias, params/classifier/focus_heads/kernel" in caplog.text


def test_what_else_does_not_fit_is_an_error(old):
    wider = model(policy_hidden=40)
    with pytest.raises(UserError, match=r"checkpoint .* belongs to another model: .*spatial_policy/.* and"):
        initialize_from(old, wider, ["a", "b", "c"], variables(wider, 0.0))
    plain = create_model("tsm_tiny", num_classes=3)
    with pytest.raises(UserError, match="is missing"):
        initialize_from(old, plain, ["a", "b", "c"], variables(plain, 0.0))

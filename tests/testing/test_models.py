"""Every tiny model of the registry keeps the rules; each rule catches a model that breaks it."""

from functools import partial

import jax.numpy as jnp
import pytest
from flax import linen as nn

from adafocus_jax.config.recipes import family_groups
from adafocus_jax.models import MODELS, create_model
from adafocus_jax.models.layers import pool_frames
from adafocus_jax.models.video_classifier import VideoClassifier
from adafocus_jax.testing import RuleBrokenError, check_model
from adafocus_jax.train.optimizer import ParamGroup

SMALL = {
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


@pytest.mark.parametrize("name", [name for name in MODELS if name.endswith("_tiny")])
def test_model_of_the_registry(name):
    sizes = SMALL if name.startswith("uni") else {"num_candidates": 3, "image_size": 24}
    check_model(partial(create_model, name, num_classes=3, **sizes), groups=family_groups(name).values())


class Pixels(nn.Module):
    """An encoder of one layer."""

    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, frames, train):
        return pool_frames(nn.Dense(5, name="dense", dtype=self.dtype)(frames))


class Broken(VideoClassifier):
    """A classifier whose output says something else."""

    broken: str = ""

    @nn.compact
    def __call__(self, batch, train=False, draws=None):
        out = super().__call__(batch, train, draws)
        if self.broken == "unused":
            self.param("unused", nn.initializers.ones, (2,), jnp.float32)
        changes = {
            "boxes": {"boxes": out.boxes + 1},
            "order": {"frame_indices": out.frame_indices[:, ::-1]},
            "range": {"frame_indices": out.frame_indices + 1},
            "weights": {"frame_weights": 2 * out.frame_weights},
            "last exit": {"logits": 2 * out.logits},
            "shape": {"exit_logits": out.exit_logits[:, 0]},
            "rounded": {"actions": out.actions.astype(self.dtype)},
        }
        return out.replace(**changes.get(self.broken, {}))


def make(broken="", dtype="float32", remat="", unstable=False):
    encoder = Pixels(jnp.dtype(dtype))
    if unstable and remat:
        encoder = nn.Sequential([encoder])
    return Broken(3, encoder, 3, 8, dtype=jnp.dtype(dtype), dropout=0.0, broken=broken)


def test_a_sound_model_passes():
    check_model(make, groups=[ParamGroup(".*")])


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("boxes", "boxes outside the frame of 8 px"),
        ("order", "frame_indices do not increase"),
        ("range", "frame_indices outside 0…2"),
        ("weights", "frame_weights"),
        ("last exit", "logits are not those of the last exit"),
        ("shape", "exit_logits|rank|shape"),
    ],
)
def test_an_output_that_is_not_what_it_says(broken, message):
    with pytest.raises(RuleBrokenError, match=message) as caught:
        check_model(partial(make, broken))
    assert caught.value.rule == "yields what ModelOutput says"
    assert "model Broken breaks the rule" in str(caught.value)
    assert "frames=uint8[2,3,8,8,3]" in str(caught.value)


def test_policies_that_are_rounded():
    with pytest.raises(RuleBrokenError, match="keeps float32 logits and policies with bfloat16"):
        check_model(partial(make, "rounded"))


def test_parameters_that_remat_renames():
    with pytest.raises(RuleBrokenError, match="keeps its parameters with remat"):
        check_model(partial(make, unstable=True))


def test_groups_that_leave_a_parameter_out():
    with pytest.raises(
        RuleBrokenError, match="no optimizer group matches parameter classifier/linear/bias"
    ) as caught:
        check_model(make, groups=[ParamGroup("encoder/.*")])
    assert "classifier/linear/kernel=float32[5,3]" in str(caught.value)


def test_parameters_may_go_without_gradient_where_one_says_so():
    with pytest.raises(
        RuleBrokenError, match=r"has gradients that reach every parameter'\n.*\n.*zero: unused"
    ):
        check_model(partial(make, "unused"))
    check_model(partial(make, "unused"), untrained="unus.*")

"""Every tiny encoder and every head of the registry keeps the rules; each rule catches a part that breaks it."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from adafocus_jax.models import ENCODERS, HEADS
from adafocus_jax.models.layers import BatchNorm, Dense, Dropout, FrameFeatures, pool_frames
from adafocus_jax.testing import RuleBrokenError, check_encoder, check_head

SHAPE = (2, 3, 8, 8, 3)


@pytest.mark.parametrize("name", [name for name in ENCODERS if name.endswith("_tiny")])
def test_encoder_of_the_registry(name):
    check_encoder(ENCODERS[name], (2, 3, 24, 24, 3))


@pytest.mark.parametrize("name", HEADS)
def test_head_of_the_registry(name):
    check_head(HEADS[name])


class Patches(nn.Module):
    """Patches of 4 pixels by one kernel: a sound encoder, and a way to break it."""

    width: float
    norm: nn.Module
    dtype: jnp.dtype
    broken: str = ""

    @nn.compact
    def __call__(self, frames, train):
        broken = self.broken
        if broken == "parameters":
            self.param("half", nn.initializers.ones, (), jnp.bfloat16)
        if broken == "unused":
            self.param("unused", nn.initializers.ones, (2,), jnp.float32)
        x = frames.astype(jnp.float32 if broken == "bfloat16" else self.dtype)
        x = nn.Conv(6, (4, 4), (4, 4), name="conv", dtype=x.dtype)(x)
        norm = BatchNorm if broken == "norm" else self.norm
        x = norm(dtype=x.dtype, name="norm")(x, train and broken != "statistics")
        if broken == "batch":
            x = x - x.mean(axis=0, keepdims=True)
        if broken == "jit" and not isinstance(x, jax.core.Tracer):
            x = 1.01 * x
        if broken == "finite":
            x = x / jnp.zeros_like(x)
        if broken == "gradients":
            x = x + jnp.sqrt(0 * x).astype(x.dtype)
        if broken == "repeatable" and not train:
            x = x + jax.pure_callback(lambda: np.float32(next(CALLS)), jax.ShapeDtypeStruct((), np.float32))
        features = pool_frames(nn.relu(x))
        if broken == "features":
            return features.replace(pooled=features.pooled.mean(axis=1))
        if broken == "named":
            return features.maps, features.pooled
        return features


class Rematerialised(Patches):
    """Loses its norm where blocks are computed again."""

    remat: str = ""

    @nn.compact
    def __call__(self, frames, train):
        x = nn.Dense(4, name="dense")(frames)
        if self.remat:
            x = nn.Dense(4, name="another")(x)
        return pool_frames(x.astype(self.dtype))


CALLS = itertools.count()


def test_a_sound_encoder_passes():
    check_encoder(Patches, SHAPE)


@pytest.mark.parametrize(
    ("broken", "rule"),
    [
        ("parameters", "keeps float32 parameters"),
        ("unused", "has gradients that reach every parameter"),
        ("bfloat16", "computes in bfloat16"),
        ("norm", "normalises with the norm that it is given"),
        ("statistics", "moves its running statistics in training"),
        ("batch", "gives a video alone what it gives it in a batch"),
        ("jit", "gives the same without jit"),
        ("finite", "evaluates to finite values, the same each time"),
        ("repeatable", "evaluates to finite values, the same each time"),
        ("gradients", "has finite gradients"),
        ("features", "yields maps"),
        ("named", "yields maps"),
    ],
)
def test_an_encoder_that_breaks_a_rule(broken, rule):
    with pytest.raises(RuleBrokenError, match=rule) as caught:
        check_encoder(partial(Patches, broken=broken), SHAPE)
    assert caught.value.rule.startswith(rule)
    message = str(caught.value)
    assert message.startswith("encoder Patches breaks the rule '")
    assert "float32[2,3,8,8,3]" in message


def test_an_encoder_that_remat_changes():
    with pytest.raises(RuleBrokenError, match="keeps its parameters and gradients with remat"):
        check_encoder(Rematerialised, SHAPE)


def test_an_encoder_that_is_another_each_time_it_is_made():
    with pytest.raises(RuleBrokenError, match="traced once"):
        check_encoder(lambda norm, **sizes: Patches(norm=lambda **given: norm(**given), **sizes), SHAPE)


def test_an_encoder_that_cannot_take_frames():
    class Flat(Patches):
        def __call__(self, frames, train):
            return FrameFeatures(frames.reshape(2, 5), frames)

    with pytest.raises(
        RuleBrokenError, match=r"initialises from shapes alone.*\n.*\n.*TypeError: cannot reshape"
    ):
        check_encoder(Flat, SHAPE)


class OneLayer(nn.Module):
    num_classes: int
    dropout: float
    broken: str = ""

    @nn.compact
    def __call__(self, features, keys, train):
        if self.broken != "dtype":
            features = features.astype(jnp.float32)
        if self.broken == "shared":
            keys = jnp.broadcast_to(keys[:1], keys.shape) if train and len(keys) > 1 else keys
        if self.broken != "no dropout":
            features = Dropout(self.dropout, name="dropout")(features, keys, train or self.broken == "always")
        logits = Dense(self.num_classes, name="linear", dtype=features.dtype)(features)
        return logits[..., None, :] if self.broken == "shape" else logits


@pytest.mark.parametrize(
    ("broken", "rule"),
    [
        ("shape", "yields float32 logits"),
        ("dtype", "yields float32 logits"),
        ("no dropout", "drops features in training alone"),
        ("always", "drops features in training alone"),
        ("shared", "drops by a video's own key alone"),
    ],
)
def test_a_head_that_breaks_a_rule(broken, rule):
    check_head(OneLayer)
    with pytest.raises(RuleBrokenError, match=rule) as caught:
        check_head(partial(OneLayer, broken=broken))
    assert "head OneLayer breaks" in str(caught.value)
    assert "float32[3,12]" in str(caught.value) or "float32[3,4,12]" in str(caught.value)

"""The check of a loss term."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from adafocus_jax.testing.networks import JIT_TOLERANCE
from adafocus_jax.testing.rules import assert_close, rule
from adafocus_jax.types import Array, ModelOutput, PassOutput


def check_loss_term(term: Callable[[ModelOutput, Array], Array], out: ModelOutput | None = None) -> None:
    """Checks a loss term by all rules that training relies on.

    It takes a training pass and labels ``[B]`` and returns a float32 value per video ``[B]``. The rules: shape and
    dtype; finite values and gradients; the same with and without jit; the value of a video does not depend on the
    others.

    Args:
      term: as ``register_loss_term`` takes it.
      out: the training pass to try it with; None: a random one of three videos, four frames and five classes.

    Raises:
      RuleBrokenError: names the rule, and the shapes.
    """
    part = f"loss term {getattr(term, '__name__', term)}"
    out = training_pass() if out is None else out
    labels = jnp.arange(len(out.logits), dtype=jnp.int32) % out.logits.shape[-1]
    with rule(part, "yields a finite float32 value per video", output=out, labels=labels):
        values = jax.jit(term)(out, labels)
        chex.assert_shape(values, labels.shape)
        assert values.dtype == jnp.float32, f"values are {values.dtype}"
        chex.assert_tree_all_finite(values)
    with rule(part, "gives the same without jit", output=out, labels=labels):
        assert_close(term(out, labels), values, JIT_TOLERANCE)
    with rule(part, "values a video alone as among others", output=out, labels=labels):
        first = jax.tree.map(lambda x: x[:1], (out, labels))
        assert_close(jax.jit(term)(*first), values[:1], JIT_TOLERANCE)
    with rule(part, "has finite gradients", output=out, labels=labels):
        slope = jax.jit(jax.grad(lambda out: term(out, labels).mean(), allow_int=True))
        gradients = jax.device_get(slope(out))
        floats = [leaf for leaf in jax.tree.leaves(gradients) if leaf.dtype == jnp.float32]
        chex.assert_tree_all_finite(floats)


def training_pass(videos: int = 3, frames: int = 4, classes: int = 5) -> ModelOutput:
    """A random training pass of a model with policies: G = F, so E is twice ``frames``."""
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> Any:
        return jnp.asarray(rng.standard_normal((videos, *shape)), jnp.float32)

    def one_pass() -> PassOutput:
        return PassOutput(normal(2 * frames, classes), normal(frames, classes), jnp.abs(normal(frames, 4)))

    learned = one_pass()
    indices = jnp.tile(jnp.arange(frames, dtype=jnp.int32)[None], (videos, 1))
    return ModelOutput(
        logits=learned.exit_logits[:, -1],
        exit_logits=learned.exit_logits,
        global_logits=normal(frames, classes),
        local_logits=learned.local_logits,
        temporal_logits=normal(classes),
        spatial_logits=normal(classes),
        frame_weights=jax.nn.softmax(normal(frames)),
        frame_indices=indices,
        glance_indices=indices,
        actions=jax.nn.sigmoid(normal(frames, 4)),
        boxes=learned.boxes,
        glance_features=normal(frames, 8),
        policy=learned,
        random=one_pass(),
    )

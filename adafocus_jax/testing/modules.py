"""Checks of parts of a network: encoders and heads."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.flatten_util import ravel_pytree

from adafocus_jax.models.layers import BatchNorm, FrameFeatures
from adafocus_jax.testing.networks import (
    JIT_TOLERANCE,
    REMAT_TOLERANCE,
    Network,
    check_evaluation,
    check_training,
    check_variables,
    gradients_of,
    noise,
    random_projection,
    variable_shapes,
)
from adafocus_jax.testing.rules import assert_close, assert_equal, rule

MIN_COSINE = 0.97
"""Between features in bfloat16 and in float32."""


def check_encoder(
    make: Callable[..., nn.Module], shape: tuple[int, int, int, int, int] = (2, 3, 32, 32, 3)
) -> None:
    """Checks an encoder by all rules that training, evaluation and the other parts rely on.

    It takes normalised ``frames [B, T, H, W, 3]`` and ``train``, and returns ``FrameFeatures``. The rules: shapes and
    dtypes; float32 parameters; the same with and without jit, alone and in a batch, and each time; traced once;
    finite gradients that reach every parameter; the norm that it is given; bfloat16 activations; where it has an
    argument ``remat``, the same parameters and gradients with it.

    Args:
      make: from ``width``, ``norm`` and ``dtype`` to the module, as ``register_encoder`` takes it.
      shape: of the frames to try it with; small, as it is compiled half a dozen times.

    Raises:
      RuleBrokenError: names the rule, and the shapes.
    """
    frames = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    norms: list[nn.Module] = []

    def norm(*args: Any, **kwargs: Any) -> nn.Module:
        norms.append(BatchNorm(*args, **kwargs))
        return norms[-1]

    def built(dtype: Any = jnp.float32, norm: Any = BatchNorm, **arguments: Any) -> nn.Module:
        return make(width=1.0, norm=norm, dtype=jnp.dtype(dtype), **arguments)

    part = f"encoder {_name(make)}"
    network = Network(part, built, frames, lambda frames, train: (frames, train))
    check_variables(network)
    out = check_evaluation(network)
    with rule(part, "yields maps [B, T, h, w, D] and pooled [B, T, D]", frames=frames, output=out):
        _check_features(out, shape[:2], jnp.float32)
    with rule(part, "normalises with the norm that it is given", frames=frames):
        variable_shapes(network, built(norm=norm))
        assert norms or "batch_stats" not in network.variables, "it has running statistics of another norm"
    check_training(network, random_projection, untrained=lambda path: False)
    _check_bfloat16(network, out)
    if hasattr(built(), "remat"):
        _check_remat(network)


def _check_features(out: Any, leading: tuple[int, ...], dtype: Any) -> None:
    assert isinstance(out, FrameFeatures), f"it returns {type(out).__name__}, not FrameFeatures"
    chex.assert_rank(out.maps, 5)
    chex.assert_shape(out.maps, (*leading, None, None, None))
    chex.assert_shape(out.pooled, (*leading, out.maps.shape[-1]))
    for name, leaf in (("maps", out.maps), ("pooled", out.pooled)):
        assert leaf.dtype == dtype, f"{name} are {leaf.dtype}, not {jnp.dtype(dtype)}"


def _check_bfloat16(network: Network, exact: Any) -> None:
    module = network.make(dtype=jnp.bfloat16)
    with rule(network.part, "keeps float32 parameters with bfloat16 activations", frames=network.inputs):
        assert_equal(noise(variable_shapes(network, module)), network.variables)
    evaluate = jax.jit(lambda variables, inputs: network(module, variables, inputs, False)[0])
    with rule(network.part, "computes in bfloat16 nearly what it computes in float32", frames=network.inputs):
        out = evaluate(network.variables, network.inputs)
        _check_features(out, network.inputs.shape[:2], jnp.bfloat16)
        one, other = (np.asarray(x.pooled, np.float32).ravel() for x in (out, exact))
        cosine = one @ other / (np.linalg.norm(one) * np.linalg.norm(other))
        assert cosine > MIN_COSINE, f"cosine {cosine:.3f} between the pooled features"


def _check_remat(network: Network) -> None:
    module = network.make(remat=".*")
    with rule(network.part, "keeps its parameters and gradients with remat='.*'", frames=network.inputs):
        assert_equal(noise(variable_shapes(network, module)), network.variables)
        plain = ravel_pytree(gradients_of(network, random_projection))[0]
        again = ravel_pytree(gradients_of(network, random_projection, module))[0]
        assert_close(again, plain, REMAT_TOLERANCE)


def check_head(make: Callable[..., nn.Module], features: int = 12, num_classes: int = 5) -> None:
    """Checks a head by all rules that the models rely on.

    It takes pooled features ``[B, ..., D]``, a random key per video (or None) and ``train``, and returns float32 logits
    ``[B, ..., K]``. The rules: shapes and dtypes, also of bfloat16 features; float32 parameters; the same with and
    without jit, alone and in a batch, and each time; traced once; finite gradients that reach every parameter; dropout
    that is off in evaluation and depends on a video's own key alone.

    Args:
      make: from ``num_classes`` and ``dropout=`` to the module, as ``register_head`` takes it.
      features: ``D`` to try it with.
      num_classes: ``K`` to try it with.

    Raises:
      RuleBrokenError: names the rule, and the shapes.
    """
    part, rng = f"head {_name(make)}", np.random.default_rng(0)
    for shape in ((3, features), (3, 4, features)):
        inputs = {
            "features": rng.standard_normal(shape).astype(np.float32),
            "keys": jax.random.split(jax.random.key(1), 3),
        }
        network = Network(part, partial(make, num_classes, dropout=0.0), inputs, _head_arguments)
        check_variables(network)
        out = check_evaluation(network)
        with rule(part, "yields float32 logits [B, ..., K]", features=inputs["features"], output=out):
            chex.assert_shape(out, (*shape[:-1], num_classes))
            assert out.dtype == jnp.float32, f"logits are {out.dtype}"
            half = {**inputs, "features": jnp.asarray(inputs["features"], jnp.bfloat16)}
            rounded = network(network.make(), network.variables, half, False)[0]
            assert rounded.dtype == jnp.float32, f"logits of bfloat16 features are {rounded.dtype}"
    check_training(network, random_projection, untrained=lambda path: False)
    dropping = Network(part, partial(make, num_classes, dropout=0.5), inputs, _head_arguments)
    _check_dropout(dropping, network.variables, out)


def _head_arguments(inputs: dict[str, Any], train: bool) -> tuple[Any, ...]:
    return inputs["features"], inputs["keys"], train


def _check_dropout(network: Network, variables: dict[str, Any], exact: Any) -> None:
    inputs = network.inputs
    train = jax.jit(lambda inputs: network(network.make(), variables, inputs, True)[0])
    with rule(network.part, "drops features in training alone", features=inputs["features"]):
        assert_close(network(network.make(), variables, inputs, False)[0], exact, JIT_TOLERANCE)
        dropped = train(inputs)
        assert not np.allclose(dropped, exact), "dropout=0.5 changes nothing"
    with rule(network.part, "drops by a video's own key alone", features=inputs["features"]):
        alone = network(network.make(), variables, jax.tree.map(lambda x: x[1:2], inputs), True)[0]
        assert_close(alone, dropped[1:2], JIT_TOLERANCE)


def _name(make: Callable[..., Any]) -> str:
    while isinstance(make, partial):
        make = make.func
    return getattr(make, "__qualname__", type(make).__name__)

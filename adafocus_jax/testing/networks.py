"""The rules that hold for every network, whatever it takes and yields: encoders, heads, whole models."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from adafocus_jax.testing.rules import assert_close, assert_equal, path_of, rule

COLLECTIONS = frozenset({"params", "batch_stats"})
JIT_TOLERANCE = 1e-4
"""Relative: a compiled program may sum in another order."""
REMAT_TOLERANCE = 1e-2
"""Relative, of gradients: those below a batch norm nearly cancel."""

Call = Callable[[Any, bool], tuple[Any, ...]]
"""From inputs and ``train`` to the arguments of a module's ``__call__``."""


@dataclass(frozen=True)
class Network:
    """A linen module under test, and how it is called."""

    part: str
    """What messages call it."""
    make: Callable[..., nn.Module]
    """Makes the module, twice alike where it is called twice."""
    inputs: Any
    """A tree of arrays whose first axis are videos."""
    call: Call

    @functools.cached_property
    def variables(self) -> dict[str, Any]:
        """Noise in place of fresh weights: layers that begin as zeros would hide what comes before them."""
        with rule(self.part, "initialises from shapes alone", inputs=self.inputs):
            shapes = variable_shapes(self, self.make())
        return noise(shapes)

    def __call__(
        self, module: nn.Module, variables: dict[str, Any], inputs: Any, train: bool
    ) -> tuple[Any, Any]:
        """The output, and in training the new running statistics."""
        mutable = ["batch_stats"] if train else False
        result = module.apply(variables, *self.call(inputs, train), mutable=mutable)
        return result if train else (result, None)


def variable_shapes(network: Network, module: nn.Module) -> dict[str, Any]:
    """Shapes and dtypes of what the module initialises; runs nothing."""
    return jax.eval_shape(lambda x: module.init(jax.random.key(0), *network.call(x, False)), network.inputs)


def noise(shapes: dict[str, Any]) -> dict[str, Any]:
    """Normal parameters, kernels divided by the square root of their fan-in; 0 and 1 as running statistics."""
    rng = np.random.default_rng(0)

    def normal(path: Any, leaf: Any) -> np.ndarray:
        if path[0].key == "batch_stats":
            return np.full(leaf.shape, "var" in path_of(path[-1:]), leaf.dtype)
        fan_in = np.prod(leaf.shape[:-1]) if len(leaf.shape) > 1 else 4
        around = 1 if path_of(path[-1:]) == "scale" else 0
        return (around + rng.standard_normal(leaf.shape) / fan_in**0.5).astype(leaf.dtype)

    return jax.tree_util.tree_map_with_path(normal, shapes)


def check_variables(network: Network) -> None:
    """Parameters and running statistics are float32, and there is nothing else."""
    with rule(network.part, "keeps float32 parameters and running statistics alone", inputs=network.inputs):
        assert "params" in network.variables, "there is no parameter"
        assert network.variables.keys() <= COLLECTIONS, f"collections {sorted(network.variables)}"
        for path, leaf in jax.tree_util.tree_leaves_with_path(network.variables):
            assert leaf.dtype == np.float32, f"{path_of(path)} is {leaf.dtype}"


def check_evaluation(network: Network) -> Any:
    """The rules of an evaluation pass. Returns its output."""
    part, inputs, variables = network.part, network.inputs, network.variables
    traces = []

    def run(module: nn.Module, variables: dict[str, Any], inputs: Any) -> Any:
        traces.append(module)
        return network(module, variables, inputs, False)[0]

    evaluate = jax.jit(run, static_argnums=0)
    with rule(part, "evaluates", inputs=inputs):
        out = jax.device_get(evaluate(network.make(), variables, inputs))
    with rule(part, "is traced once: modules made alike are equal", inputs=inputs):
        again = jax.device_get(evaluate(network.make(), variables, inputs))
        assert len(traces) == 1, "it was traced again for the same shapes"
    with rule(part, "evaluates to finite values, the same each time", inputs=inputs, output=out):
        chex.assert_tree_all_finite(out)
        assert_equal(again, out)
    with rule(part, "gives the same without jit", inputs=inputs, output=out):
        assert_close(run(network.make(), variables, inputs), out, JIT_TOLERANCE)
    with rule(part, "gives a video alone what it gives it in a batch", inputs=inputs, output=out):
        first = jax.tree.map(lambda x: x[:1], inputs)
        alone = jax.jit(run, static_argnums=0)(network.make(), variables, first)
        assert_close(alone, jax.tree.map(lambda x: x[:1], out), JIT_TOLERANCE)
    return out


def gradients_of(network: Network, loss: Callable[[Any], Any], module: nn.Module | None = None) -> Any:
    """Gradients of the parameters, and the new running statistics, of one training pass."""
    module = network.make() if module is None else module

    @jax.jit
    def step(variables: dict[str, Any], inputs: Any) -> tuple[Any, Any]:
        def objective(params: Any) -> tuple[Any, Any]:
            out, updates = network(module, {**variables, "params": params}, inputs, True)
            return loss(out), updates

        return jax.grad(objective, has_aux=True)(variables["params"])

    return jax.device_get(step(network.variables, network.inputs))


def check_training(network: Network, loss: Callable[[Any], Any], untrained: Callable[[str], Any]) -> Any:
    """The rules of a training pass.

    Args:
      network: what is checked.
      loss: from the output to a scalar.
      untrained: tells of a parameter's path whether it may get no gradient.

    Returns:
      Gradients of the parameters.
    """
    with rule(network.part, "trains", inputs=network.inputs):
        gradients, updates = gradients_of(network, loss)
    leaves = [(path_of(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(gradients)]
    with rule(network.part, "has finite gradients", inputs=network.inputs):
        wrong = [path for path, leaf in leaves if not np.isfinite(leaf).all()]
        assert not wrong, f"not finite: {', '.join(wrong)}"
    with rule(network.part, "has gradients that reach every parameter", inputs=network.inputs):
        unreached = [path for path, leaf in leaves if not leaf.any() and not untrained(path)]
        assert not unreached, f"zero: {', '.join(unreached)}"
    with rule(network.part, "moves its running statistics in training", inputs=network.inputs):
        before = network.variables.get("batch_stats", {})
        moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), updates.get("batch_stats", {}), before)
        stays = [path_of(path) for path, one in jax.tree_util.tree_leaves_with_path(moved) if not one]
        assert not stays, f"unchanged: {', '.join(stays)}"
    return gradients


def random_projection(out: Any) -> jax.Array:
    """A scalar on which every float of the output bears."""
    floats = [leaf for leaf in jax.tree.leaves(out) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    keys = jax.random.split(jax.random.key(7), len(floats))
    return sum(
        (
            jnp.vdot(jax.random.normal(key, leaf.shape), leaf.astype(jnp.float32))
            for key, leaf in zip(keys, floats, strict=True)
        ),
        jnp.float32(0),
    )

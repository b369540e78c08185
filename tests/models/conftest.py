"""The networks' counterparts in PyTorch, which the tests build from torch.nn, and how their weights cross over."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest


@pytest.fixture(scope="session")
def torch():
    return pytest.importorskip("torch", reason="parity tests need PyTorch (pip install torch)")


@pytest.fixture
def randomized(torch) -> Callable[[Any], Any]:
    """Gives every parameter and running statistic of a module a random value, and returns the module."""

    def randomize(module):
        generator = torch.Generator().manual_seed(0)
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.is_floating_point():
                fan_in = max(1, tensor[0].numel()) if tensor.ndim > 1 else 1
                tensor.data = torch.randn(tensor.shape, generator=generator) / fan_in**0.5
        for layer in module.modules():
            if hasattr(layer, "running_var"):
                layer.running_var.abs_().add_(0.5)
                layer.weight.data.abs_().add_(0.5)
        return module

    return randomize


@pytest.fixture
def variables_of() -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """Variables for Flax out of {path: layer of torch.nn}."""

    def convert(layers):
        variables: dict[str, Any] = {"params": {}, "batch_stats": {}}
        for path, layer in layers.items():
            put(variables["params"], path, parameters(layer))
            if hasattr(layer, "running_mean"):
                statistics = {"mean": layer.running_mean, "var": layer.running_var}
                put(variables["batch_stats"], path, to_numpy(statistics))
        return variables

    return convert


def put(tree: dict[str, Any], path: str, leaves: dict[str, np.ndarray]) -> None:
    for part in path.split("/"):
        tree = tree.setdefault(part, {})
    tree.update(leaves)


def to_numpy(tensors: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {name: tensor.detach().numpy().copy() for name, tensor in tensors.items() if tensor is not None}


def parameters(layer: Any) -> dict[str, np.ndarray]:
    """A layer's parameters in the layout of Flax: channels last, and 2-D where the kernel has no time."""
    values = to_numpy({"kernel": layer.weight, "bias": layer.bias})
    kernel = values["kernel"]
    if hasattr(layer, "running_mean"):
        values["scale"] = values.pop("kernel")
    elif kernel.ndim == 2:
        values["kernel"] = kernel.T
    else:
        kernel = np.moveaxis(kernel, (0, 1), (-1, -2))
        values["kernel"] = kernel[0] if layer.groups == 1 and kernel.ndim == 5 else kernel
    return values


@pytest.fixture
def assert_close() -> Callable[..., None]:
    """Largest difference relative to the largest expected value, as the issue of parity states it."""

    def check(actual, expected, relative=1e-5):
        actual, expected = np.asarray(actual), np.asarray(expected)
        assert actual.shape == expected.shape
        assert np.abs(actual - expected).max() <= relative * np.abs(expected).max()

    return check


@pytest.fixture
def assert_trees_close() -> Callable[..., None]:
    """The same for pytrees; a leaf of rounding errors (such as a bias below a batch norm) is held to the largest."""

    def check(actual, expected, relative):
        largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(expected))

        def compare(path, actual, expected):
            difference = np.abs(np.asarray(actual) - np.asarray(expected)).max()
            scale = max(np.abs(expected).max(), 1e-3 * largest)
            assert difference <= relative * scale, f"{jax.tree_util.keystr(path)}: {difference / scale}"

        jax.tree_util.tree_map_with_path(compare, actual, expected)

    return check


@pytest.fixture
def assert_parity(torch, randomized, variables_of, assert_close, assert_trees_close) -> Callable[..., None]:
    """Compares a module with {path: torch layer} and a forward function, ``[B, T, H, W, C]`` to the same layout.

    In evaluation, in training with its running statistics, and in the gradients of input and parameters.
    """

    def check(ours, layers, forward, shape, relative=1e-5, gradient=5e-5, jit=jax.jit):
        layers = randomized(torch.nn.ModuleDict(layers))
        variables = variables_of(layers)
        x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        x_torch = torch.tensor(x, requires_grad=True)
        expected = forward(layers.eval(), x_torch).detach()
        assert_close(
            jit(lambda v, x: maps_of(ours.apply(v, x, train=False)))(variables, x), expected, relative
        )

        cotangent = np.random.default_rng(1).standard_normal(expected.shape).astype(np.float32)
        expected = forward(layers.train(), x_torch)
        (expected * torch.tensor(cotangent)).sum().backward()

        def loss(params, x):
            y, updates = ours.apply({**variables, "params": params}, x, train=True, mutable=["batch_stats"])
            return jnp.vdot(maps_of(y), cotangent), (maps_of(y), updates)

        grads, (y, updates) = jit(jax.grad(loss, argnums=(0, 1), has_aux=True))(variables["params"], x)
        assert_close(y, expected.detach(), relative)
        trained = variables_of(layers)["batch_stats"]
        jax.tree.map(lambda a, b: assert_close(a, b, relative), dict(updates["batch_stats"]), trained)
        for layer in layers.values():
            for parameter in layer.parameters():
                parameter.data = parameter.grad
        assert_trees_close(grads, (variables_of(layers)["params"], x_torch.grad.numpy()), gradient)

    return check


def maps_of(output: Any) -> Any:
    return getattr(output, "maps", output)


@pytest.fixture
def released_sizes(golden_dir) -> Callable[[str, str], list[int]]:
    """Sizes of all tensors of a part of a released checkpoint, sorted, without counters and classifiers."""

    def read(model, prefix):
        shapes = json.loads((golden_dir / f"{model}.state_dict.json").read_text("utf-8"))
        left_out = (
            "num_batches_tracked",
            "classifier",
            ".fc.",
            "new_fc",
            "new_new_fc",
            "lin_5",
            "projection",
        )
        return sorted(
            int(np.prod(shape))
            for name, shape in shapes.items()
            if name.startswith(prefix) and not any(part in name for part in left_out)
        )

    return read


@pytest.fixture
def sizes_of() -> Callable[..., list[int]]:
    """Sizes of all variables of an encoder, sorted."""

    def sizes(encoder, shape=(1, 2, 64, 64, 3)):
        frames = jax.ShapeDtypeStruct(shape, jnp.float32)
        variables = jax.eval_shape(lambda x: encoder.init(jax.random.key(0), x, train=False), frames)
        return sorted(leaf.size for leaf in jax.tree.leaves(variables))

    return sizes


@pytest.fixture(scope="session")
def over_frames() -> Callable[[Callable[[Any], Any], Any], Any]:
    """Applies a function of ``[B·T, C, H, W]`` to ``[B, T, H, W, C]`` tensors."""

    def apply(function, x):
        y = function(x.flatten(0, 1).permute(0, 3, 1, 2))
        return y.permute(0, 2, 3, 1).unflatten(0, x.shape[:2])

    return apply


@pytest.fixture(scope="session")
def shifted(torch) -> Callable[[Any], Any]:
    """TSM's shift of ``[B, T, H, W, C]``, an eighth of the channels each way."""

    def shift(x):
        fold = x.shape[-1] // 8
        y = torch.zeros_like(x)
        y[:, :-1, ..., :fold] = x[:, 1:, ..., :fold]
        y[:, 1:, ..., fold : 2 * fold] = x[:, :-1, ..., fold : 2 * fold]
        y[..., 2 * fold :] = x[..., 2 * fold :]
        return y

    return shift

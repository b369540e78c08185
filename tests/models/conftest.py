"""The networks' counterparts in PyTorch, which the tests build from torch.nn, and how their weights cross over."""

from collections.abc import Callable, Mapping
from typing import Any

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

"""Norms as part of the convolutions before them, and activations by the names under which runtimes fuse them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Any

import numpy as np

from adafocus_jax.jaxpr_to_onnx.graph import Graph


def fuse(g: Graph, outputs: Collection[str]) -> None:
    """Rewrites a graph to fewer nodes, whose ``outputs`` stay.

    Factors and summands per channel after a convolution become part of its kernel and bias, ``max(x, 0)`` becomes Relu,
    ``min(max(x, 0), c)`` Clip.
    """
    uses = Counter([*outputs, *(name for node in g.nodes for name in node.input)])
    makers: dict[str, Any] = {}
    kept = []
    for node in g.nodes:
        constants = [name for name in node.input if name in g.constants]
        others = [name for name in node.input if name not in g.constants]
        if len(constants) == len(others) == 1:
            before = makers.get(others[0]) if uses[others[0]] == 1 else None
            constant = g.constants[constants[0]]
            if before is not None and _absorb(g, before, node.op_type, constant):
                before.output[:] = node.output
                makers[node.output[0]] = before
                continue
            if node.op_type == "Max" and constant.size == 1 and constant == 0:
                node.op_type, node.input[:] = "Relu", others
        makers.update(dict.fromkeys(node.output, node))
        kept.append(node)
    g.nodes = kept


def _absorb(g: Graph, node: Any, then: str, constant: np.ndarray) -> bool:
    """Makes what comes next, with a constant, part of ``node``; False where that cannot be."""
    if node.op_type == "Relu" and then == "Min" and constant.size == 1 and constant >= 0:
        bounds = [g.constant(np.asarray(bound, constant.dtype)).name for bound in (0, constant.item())]
        node.op_type, node.input[:] = "Clip", [*node.input, *bounds]
        return True
    if node.op_type != "Conv" or then not in ("Mul", "Add") or node.input[1] not in g.constants:
        return False
    kernel = g.constants[node.input[1]]
    if constant.shape != (1, len(kernel), *[1] * (kernel.ndim - 2)):
        return False
    values = constant.reshape(-1)
    bias = g.constants[node.input[2]] if len(node.input) > 2 else np.zeros_like(values)
    if then == "Mul":
        kernel, bias = kernel * values.reshape(-1, *[1] * (kernel.ndim - 1)), bias * values
    else:
        bias = bias + values
    node.input[:] = [node.input[0], g.constant(kernel, "kernel").name, g.constant(bias, "bias").name]
    return True

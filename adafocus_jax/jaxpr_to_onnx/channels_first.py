"""Networks with channels before space from their first convolution to their last.

JAX's convolutions here have channels last, those of ONNX first. With a pair of transpositions around each, runtimes
fuse neither norms nor activations into them. So a convolution's result has a twin that is not transposed back, and what
can follow on the twin does; what nobody reads of the two is dropped in the end.
"""

from __future__ import annotations

from collections.abc import Sequence

from adafocus_jax.jaxpr_to_onnx.graph import Graph, Twin, Value
from adafocus_jax.jaxpr_to_onnx.program import Shape, Spec


def twin_order(rank: int) -> tuple[int, ...]:
    """The transposition from channels last to first."""
    return (0, rank - 1, *range(1, rank - 1))


def with_twin(g: Graph, name: str, shape: Shape, result: Spec) -> Value:
    """The value of ``result``'s shape whose twin is ``name``."""
    back = g.op("Transpose", name, perm=(0, *range(2, len(shape)), 1))[0]
    if (shape[0], *shape[2:], shape[1]) != result.shape:
        back = g.reshaped(back, result.shape)
    return Value(back, result.shape, twin=Twin(name, shape))


def twin_of(value: Value, spec: Spec) -> Twin | None:
    """The twin of ``value``, if it has its very axes."""
    twin = value.twin
    if twin is None or (twin.shape[0], *twin.shape[2:], twin.shape[1]) != spec.shape:
        return None
    return twin


def elementwise_on_twins(
    g: Graph, kinds: Sequence[str], inputs: list[Value], result: Spec
) -> list[Value] | None:
    """Computes an elementwise result on the twins of its inputs; None where that cannot be."""
    twins = [value.twin for value in inputs if value.twin is not None]
    if not twins or any(twin.shape != twins[0].shape for twin in twins):
        return None
    channels, rank = twins[0].shape[1], len(twins[0].shape)
    names = []
    for value in inputs:
        if value.twin is not None and value.shape == result.shape:
            names.append(value.twin.name)
        elif value.array is not None and value.array.size == 1:
            names.append(g.constant(value.array.reshape(())).name)
        elif value.array is not None and value.array.size == value.shape[-1] == channels == result.shape[-1]:
            names.append(g.constant(value.array.reshape(1, -1, *[1] * (rank - 2))).name)
        else:
            return None
    name = g.op(kinds[0], *names)[0]
    for kind in kinds[1:]:
        name = g.op(kind, name)[0]
    return [with_twin(g, name, twins[0].shape, result)]


def slice_of_twin(
    g: Graph, value: Value, axes: Sequence[int], numbers: Sequence[str], result: Spec
) -> Value | None:
    """A slice along axes of space alone; ``numbers`` name its starts and ends, and its steps."""
    twin, rank = value.twin, len(result.shape)
    if twin is None:
        return None
    space = len(twin.shape) - 2
    if value.shape[-1 - space :] != (*twin.shape[2:], twin.shape[1]):
        return None
    moved = [axis - (rank - 1 - space) + 2 for axis in axes]
    if min(moved) < 2 or max(axes) > rank - 2:
        return None
    starts, ends, steps = numbers
    name = g.op("Slice", twin.name, starts, ends, g.integers(moved), steps)[0]
    shape = (*twin.shape[:2], *result.shape[-1 - space : -1])
    return with_twin(g, name, shape, result)

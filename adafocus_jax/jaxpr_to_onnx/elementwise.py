"""Primitives that work element by element, and changes of dtype."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from adafocus_jax.jaxpr_to_onnx.channels_first import elementwise_on_twins
from adafocus_jax.jaxpr_to_onnx.graph import Graph, Value
from adafocus_jax.jaxpr_to_onnx.program import Equation, Shape, Spec, UntranslatableError

Translation = Callable[[Graph, Equation, list[Value], list[Spec], list[Spec]], Sequence[Value]]
"""From (graph, equation, its inputs in the graph, their shapes and dtypes in JAX, those of its outputs)."""


def _same_shape(inputs: list[Value], result: Spec) -> Shape:
    """Shape of an elementwise result: where all inputs have length 1 for now, so has the result."""
    rank = len(result.shape)
    shapes = [value.shape for value in inputs if len(value.shape) == rank]
    return tuple(next((s[axis] for s in shapes if s[axis] != 1), 1) for axis in range(rank))


def _elementwise(kind: str | Sequence[str]) -> Translation:
    """One node, or several, each taking the result of the one before."""
    kinds = (kind,) if isinstance(kind, str) else kind
    first, *more = kinds

    def translate(
        g: Graph, eq: Equation, inputs: list[Value], _: list[Spec], results: list[Spec]
    ) -> list[Value]:
        if on_twins := elementwise_on_twins(g, kinds, inputs, results[0]):
            return on_twins
        name = g.op(first, *(value.name for value in inputs))[0]
        for step in more:
            name = g.op(step, name)[0]
        return [Value(name, _same_shape(inputs, results[0]))]

    return translate


def _logical(kind: str) -> Translation:
    def translate(g: Graph, eq: Equation, *rest: Any) -> Sequence[Value]:
        if rest[1][0].dtype != np.bool_:
            raise UntranslatableError(f"the JAX primitive {eq.name!r} is known of booleans alone")
        return _elementwise(kind)(g, eq, *rest)

    return translate


def _identity(g: Graph, eq: Equation, inputs: list[Value], *_: Any) -> list[Value]:
    return inputs


def _twice(g: Graph, eq: Equation, inputs: list[Value], *rest: Any) -> Sequence[Value]:
    return _elementwise("Mul")(g, eq, inputs * 2, *rest)


def _power(
    g: Graph, eq: Equation, inputs: list[Value], specs: list[Spec], results: list[Spec]
) -> list[Value]:
    exponent = g.constant(np.asarray(eq.params["y"], specs[0].dtype))
    return [Value(g.op("Pow", inputs[0].name, exponent.name)[0], inputs[0].shape)]


def _clamp(
    g: Graph, eq: Equation, inputs: list[Value], specs: list[Spec], results: list[Spec]
) -> list[Value]:
    low, x, high = (value.name for value in inputs)
    name = g.op("Min", g.op("Max", x, low)[0], high)[0]
    return [Value(name, _same_shape(inputs, results[0]))]


def _select(
    g: Graph, eq: Equation, inputs: list[Value], specs: list[Spec], results: list[Spec]
) -> list[Value]:
    which, *cases = inputs
    if specs[0].dtype != np.bool_ or len(cases) != 2:
        raise UntranslatableError("the JAX primitive 'select_n' is known of two cases alone")
    no, yes = (case.name for case in cases)
    if results[0].dtype == np.bool_:  # ONNX Runtime has no Where of booleans
        name = g.op("And", which.name, yes)[0]
        name = g.op("Or", name, g.op("And", g.op("Not", which.name)[0], no)[0])[0]
    else:
        name = g.op("Where", which.name, yes, no)[0]
    return [Value(name, _same_shape(inputs, results[0]))]


def _cast(g: Graph, eq: Equation, inputs: list[Value], specs: list[Spec], results: list[Spec]) -> list[Value]:
    if specs[0].dtype == results[0].dtype:
        return inputs
    return [Value(_as(g, inputs[0].name, results[0].dtype), inputs[0].shape)]


def _as(g: Graph, name: str, dtype: Any) -> str:
    import onnx

    return g.op("Cast", name, to=onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))[0]


def _whole(g: Graph, inputs: list[Value], specs: list[Spec]) -> list[str]:
    return [g.expanded(value, spec.shape) for value, spec in zip(inputs, specs, strict=True)]

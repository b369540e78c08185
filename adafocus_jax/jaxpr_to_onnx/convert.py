"""``to_onnx``: from a function to a checked ONNX model."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import jax

from adafocus_jax.errors import UserError
from adafocus_jax.jaxpr_to_onnx.fusion import fuse
from adafocus_jax.jaxpr_to_onnx.graph import Graph, Value
from adafocus_jax.jaxpr_to_onnx.primitives import PRIMITIVES
from adafocus_jax.jaxpr_to_onnx.program import UntranslatableError, trace

if TYPE_CHECKING:
    import onnx

OPSET = 18
"""Version of ONNX's operators that models use."""


def require_onnx() -> None:
    """Raises UserError unless the package ``onnx`` is installed."""
    if importlib.util.find_spec("onnx") is None:
        raise UserError("ONNX models need the package onnx: pip install 'adafocus_jax[onnx]'")


def to_onnx(
    function: Callable[[Any, dict[str, Any]], Mapping[str, Any]],
    constants: Any,
    inputs: Mapping[str, jax.ShapeDtypeStruct],
    *,
    name: str = "model",
    free_axis: str | None = None,
    descriptions: Mapping[str, str] | None = None,
) -> onnx.ModelProto:
    """Translates a function into an ONNX model of the same numbers, to the rounding of float32.

    It is traced in its textbook form; each primitive becomes one node or a few by the table ``PRIMITIVES``. What
    depends on ``constants`` alone is computed now, and norms become part of the convolutions before them. What the
    function computes in bfloat16, the model computes in float32.

    Args:
      function: from ``(constants, inputs)`` to a dictionary of arrays, whose keys name the model's outputs.
      constants: pytree of arrays, such as a model's variables.
      inputs: name to shape and dtype; with ``free_axis`` without the leading axis.
      name: of the graph.
      free_axis: name of a leading axis of all inputs and outputs that may have any length; None: shapes are fixed.
      descriptions: what is to be said of inputs and outputs.

    Returns:
      A model that ``onnx.checker`` accepts, of opset ``OPSET``.

    Raises:
      UserError: the package ``onnx`` is missing.
      UntranslatableError: a primitive that the table does not know, or no axis can be free.
    """
    require_onnx()
    import onnx

    outputs: dict[str, Any] = {}

    def flat(constants: Any, given: dict[str, Any]) -> list[Any]:
        found = function(constants, given)
        outputs.update(dict.fromkeys(found))
        return [found[key] for key in outputs]

    program = trace(flat, constants, inputs, free_axis is not None)
    # JAX passes the values of a dictionary in the order of its keys.
    names = dict(zip(program.inputs, sorted(inputs), strict=True))
    graph = Graph(rows_of=next(iter(inputs)))
    values = {number: Value(key, program.specs[number].shape) for number, key in names.items()}
    for number, array in program.constants.items():
        values[number] = graph.constant(array)
    for equation in program.equations:
        if equation.name not in PRIMITIVES:
            raise UntranslatableError(
                f"the JAX primitive {equation.name!r} (in {equation.scope or 'the model'}) has no translation to "
                f"ONNX; known are {', '.join(sorted(PRIMITIVES))}"
            )
        graph.scope = equation.scope
        specs = [program.specs[number] for number in equation.inputs]
        results = [program.specs[number] for number in equation.outputs]
        given = [values[number] for number in equation.inputs]
        made = PRIMITIVES[equation.name](graph, equation, given, specs, results)
        values.update(zip(equation.outputs, made, strict=True))
    graph.scope = ""
    for key, number in zip(outputs, program.outputs, strict=True):
        graph.name_output(graph.expanded(values[number], program.specs[number].shape), key)
    graph.prune(outputs)
    fuse(graph, outputs)
    model = graph.model(
        {key: (program.specs[n].shape, program.specs[n].dtype) for n, key in names.items()},
        {
            key: (program.specs[n].shape, program.specs[n].dtype)
            for key, n in zip(outputs, program.outputs, strict=True)
        },
        name=name,
        free_axis=free_axis,
        opset=OPSET,
        descriptions=descriptions or {},
    )
    onnx.checker.check_model(model, full_check=model.ByteSize() < 2**31)
    return model

"""The table from a JAX primitive to the ONNX nodes of the same meaning."""

from __future__ import annotations

import string
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from adafocus_jax.jaxpr_to_onnx.channels_first import slice_of_twin, twin_of, twin_order, with_twin
from adafocus_jax.jaxpr_to_onnx.elementwise import (
    Translation,
    _as,
    _cast,
    _clamp,
    _elementwise,
    _identity,
    _logical,
    _power,
    _select,
    _twice,
    _whole,
)
from adafocus_jax.jaxpr_to_onnx.graph import Graph, Value
from adafocus_jax.jaxpr_to_onnx.program import Equation, Rows, Shape, Spec, UntranslatableError


def _reduction(kind: str) -> Translation:
    def translate(
        g: Graph, eq: Equation, inputs: list[Value], specs: list[Spec], results: list[Spec]
    ) -> list[Value]:
        (x,), axes = _whole(g, inputs, specs), g.integers(eq.params["axes"])
        return [Value(g.op(kind, x, axes, keepdims=0)[0], results[0].shape)]

    return translate


def _argument(kind: str) -> Translation:
    def translate(
        g: Graph, eq: Equation, inputs: list[Value], specs: list[Spec], results: list[Spec]
    ) -> list[Value]:
        (x,), (axis,) = _whole(g, inputs, specs), eq.params["axes"]
        if specs[0].dtype == np.bool_:
            x = _as(g, x, np.int32)
        return [Value(_as(g, g.op(kind, x, axis=axis, keepdims=0)[0], results[0].dtype), results[0].shape)]

    return translate


def _reshape(
    g: Graph, eq: Equation, inputs: list[Value], specs: list[Spec], results: list[Spec]
) -> list[Value]:
    if eq.name == "reshape" and eq.params["dimensions"] is not None:
        raise UntranslatableError("the JAX primitive 'reshape' is known without dimensions alone")
    (x,), shape = _whole(g, inputs, specs), results[0].shape
    return [Value(g.reshaped(x, shape), shape, twin=inputs[0].twin)]


def _broadcast(
    g: Graph, eq: Equation, inputs: list[Value], specs: list[Spec], results: list[Spec]
) -> list[Value]:
    # The axes stay short: elementwise nodes broadcast by themselves.
    shape: list[Any] = [1] * len(results[0].shape)
    for axis, size in zip(eq.params["broadcast_dimensions"], inputs[0].shape, strict=True):
        shape[axis] = size
    if tuple(shape) == inputs[0].shape:
        return inputs
    if inputs[0].array is not None:
        return [g.constant(inputs[0].array.reshape(shape))]
    return [Value(g.reshaped(inputs[0].name, tuple(shape)), tuple(shape))]


def _transposed(g: Graph, name: str, order: Sequence[int]) -> str:
    order = [int(axis) for axis in order]
    if order == list(range(len(order))):
        return name
    if name in g.constants:
        return g.constant(np.ascontiguousarray(g.constants[name].transpose(order)), "kernel").name
    return g.op("Transpose", name, perm=order)[0]


def _transpose(g: Graph, eq: Equation, inputs: list[Value], *_: Any) -> list[Value]:
    order = eq.params["permutation"]
    return [Value(_transposed(g, inputs[0].name, order), tuple(inputs[0].shape[axis] for axis in order))]


def _concatenate(
    g: Graph, eq: Equation, inputs: list[Value], specs: list[Spec], results: list[Spec]
) -> list[Value]:
    parts = _whole(g, inputs, specs)
    return [Value(g.op("Concat", *parts, axis=eq.params["dimension"])[0], results[0].shape)]


def _stack(
    g: Graph, eq: Equation, inputs: list[Value], specs: list[Spec], results: list[Spec]
) -> list[Value]:
    axis = eq.params["axis"]
    parts = [g.op("Unsqueeze", x, g.integers([axis]))[0] for x in _whole(g, inputs, specs)]
    return [Value(g.op("Concat", *parts, axis=axis)[0], results[0].shape)]


def _tile(g: Graph, eq: Equation, inputs: list[Value], specs: list[Spec], results: list[Spec]) -> list[Value]:
    (x,) = _whole(g, inputs, specs)
    return [Value(g.op("Tile", x, g.shape(eq.params["reps"]))[0], results[0].shape)]


def _split(
    g: Graph, eq: Equation, inputs: list[Value], specs: list[Spec], results: list[Spec]
) -> list[Value]:
    (x,), sizes = _whole(g, inputs, specs), g.shape(eq.params["sizes"])
    if len(results) == 1:
        return [Value(x, results[0].shape)]
    names = g.op("Split", x, sizes, outputs=len(results), axis=eq.params["axis"])
    return [Value(name, result.shape) for name, result in zip(names, results, strict=True)]


def _slice(
    g: Graph, eq: Equation, inputs: list[Value], specs: list[Spec], results: list[Spec]
) -> list[Value]:
    (x,), params = _whole(g, inputs, specs), eq.params
    steps = params["strides"] or (1,) * len(specs[0].shape)
    axes = [
        axis
        for axis, size in enumerate(specs[0].shape)
        if (params["start_indices"][axis], params["limit_indices"][axis], steps[axis]) != (0, size, 1)
    ]
    if not axes:
        return [Value(x, results[0].shape)]
    starts, ends = (
        g.shape(tuple(params[key][a] for a in axes)) for key in ("start_indices", "limit_indices")
    )
    numbers = (starts, ends, g.integers([steps[a] for a in axes]))
    if on_twin := slice_of_twin(g, inputs[0], axes, numbers, results[0]):
        return [on_twin]
    name = g.op("Slice", x, starts, ends, g.integers(axes), numbers[-1])[0]
    return [Value(name, results[0].shape)]


def _pad(g: Graph, eq: Equation, inputs: list[Value], specs: list[Spec], results: list[Spec]) -> list[Value]:
    config = eq.params["padding_config"]
    if any(inner for _, _, inner in config):
        raise UntranslatableError("the JAX primitive 'pad' is known without padding between values alone")
    x, fill = _whole(g, inputs, specs)
    amounts = g.integers([low for low, _, _ in config] + [high for _, high, _ in config])
    return [Value(g.op("Pad", x, amounts, fill)[0], results[0].shape)]


def _iota(g: Graph, eq: Equation, inputs: list[Value], specs: list[Spec], results: list[Spec]) -> list[Value]:
    axis, shape = eq.params["dimension"], results[0].shape
    length, short = shape[axis], tuple(size if a == axis else 1 for a, size in enumerate(shape))
    if not isinstance(length, Rows):
        return [g.constant(np.arange(length, dtype=results[0].dtype).reshape(short))]
    end = g.op("Squeeze", g.size(length))[0]
    zero, one = (g.constant(np.int64(value)).name for value in (0, 1))
    name = _as(g, g.op("Range", zero, end, one)[0], results[0].dtype)
    return [Value(g.reshaped(name, short), short)]


def _cumulative_sum(
    g: Graph, eq: Equation, inputs: list[Value], specs: list[Spec], results: list[Spec]
) -> list[Value]:
    (x,), axis = _whole(g, inputs, specs), g.constant(np.int64(eq.params["axis"])).name
    return [Value(g.op("CumSum", x, axis, reverse=int(eq.params["reverse"]))[0], results[0].shape)]


def _cumulative_maximum(
    g: Graph, eq: Equation, inputs: list[Value], specs: list[Spec], results: list[Spec]
) -> list[Value]:
    # Each value meets the one 1, then 2, 4, … places before, which has met those before it.
    (x,), axis = _whole(g, inputs, specs), eq.params["axis"]
    length, reach = specs[0].shape[axis], 1
    if isinstance(length, Rows) or eq.params["reverse"]:
        raise UntranslatableError(
            "the JAX primitive 'cummax' is known forward, over an axis of fixed length alone"
        )
    cut = partial(_cut, g, axis=axis)
    while reach < length:
        later = g.op("Max", cut(x, start=reach, end=length), cut(x, start=0, end=length - reach))[0]
        x = g.op("Concat", cut(x, start=0, end=reach), later, axis=axis)[0]
        reach *= 2
    return [Value(x, results[0].shape)]


def _cut(g: Graph, name: str, *, axis: int, start: int, end: int) -> str:
    return g.op("Slice", name, g.integers([start]), g.integers([end]), g.integers([axis]))[0]


def _convolution(
    g: Graph, eq: Equation, inputs: list[Value], specs: list[Spec], results: list[Spec]
) -> list[Value]:
    params = eq.params
    if set(params["lhs_dilation"]) != {1} or params["batch_group_count"] != 1:
        raise UntranslatableError(
            "the JAX primitive 'conv_general_dilated' is known without lhs_dilation and batch groups alone"
        )
    numbers, (x, kernel) = params["dimension_numbers"], _whole(g, inputs, specs)
    low, high = zip(*params["padding"], strict=True)
    last = tuple(numbers.lhs_spec) == tuple(numbers.out_spec) == twin_order(len(numbers.lhs_spec))
    twin = twin_of(inputs[0], specs[0]) if last else None
    name = g.op(
        "Conv",
        twin.name if twin else _transposed(g, x, numbers.lhs_spec),
        _transposed(g, kernel, numbers.rhs_spec),
        strides=list(map(int, params["window_strides"])),
        pads=list(map(int, low + high)),
        dilations=list(map(int, params["rhs_dilation"])),
        group=params["feature_group_count"],
    )[0]
    if last:
        return [with_twin(g, name, tuple(results[0].shape[axis] for axis in numbers.out_spec), results[0])]
    return [Value(_transposed(g, name, np.argsort(numbers.out_spec).tolist()), results[0].shape)]


def _product(
    g: Graph, eq: Equation, inputs: list[Value], specs: list[Spec], results: list[Spec]
) -> list[Value]:
    (left, right), ((over_left, over_right), (batch_left, batch_right)) = (
        _whole(g, inputs, specs),
        eq.params["dimension_numbers"],
    )
    ranks, shape = [len(spec.shape) for spec in specs], results[0].shape
    free_left, free_right = _free(ranks[0], batch_left, over_left), _free(ranks[1], batch_right, over_right)
    if len(over_left) == 1 and right in g.constants and not batch_left:
        left = _transposed(g, left, (*free_left, *over_left))
        matrix = g.constants[right].transpose(*over_right, *free_right)
        matrix = matrix.reshape(len(matrix), -1)
        name = g.op("MatMul", left, g.constant(matrix, "kernel").name)[0]
        return [Value(g.reshaped(name, shape) if len(free_right) != 1 else name, shape)]
    if len(over_left) == 1 and len(free_left) <= 1 and len(free_right) <= 1:
        # Not Einsum, which OpenVINO makes of more nodes.
        left = _transposed(g, left, (*batch_left, *free_left, *over_left))
        right = _transposed(g, right, (*batch_right, *over_right, *free_right))
        missing = [axis for axis, free in ((-2, free_left), (-1, free_right)) if not free]
        left = left if free_left else g.op("Unsqueeze", left, g.integers([-2]))[0]
        right = right if free_right else g.op("Unsqueeze", right, g.integers([-1]))[0]
        name = g.op("MatMul", left, right)[0]
        return [Value(g.op("Squeeze", name, g.integers(missing))[0] if missing else name, shape)]
    letters = iter(string.ascii_lowercase)
    first = [next(letters) for _ in range(ranks[0])]
    second = [next(letters) for _ in range(ranks[1])]
    for a, b in zip((*over_left, *batch_left), (*over_right, *batch_right), strict=True):
        second[b] = first[a]
    result = [first[a] for a in (*batch_left, *free_left)] + [second[a] for a in free_right]
    equation = f"{''.join(first)},{''.join(second)}->{''.join(result)}"
    return [Value(g.op("Einsum", left, right, equation=equation)[0], shape)]


def _free(rank: int, *others: Sequence[int]) -> list[int]:
    return [axis for axis in range(rank) if not any(axis in axes for axes in others)]


def _max_pool(
    g: Graph, eq: Equation, inputs: list[Value], specs: list[Spec], results: list[Spec]
) -> list[Value]:
    params, last = eq.params, len(specs[0].shape) - 1
    window, padding = params["window_dimensions"], params["padding"]
    if window[0] != 1 or window[-1] != 1 or set(params["base_dilation"]) != {1}:
        raise UntranslatableError(
            "the JAX primitive 'reduce_window_max' is known over the axes between the first and the last alone"
        )
    (x,), space = _whole(g, inputs, specs), range(1, last)
    twin, order = twin_of(inputs[0], specs[0]), twin_order(last + 1)
    name = g.op(
        "MaxPool",
        twin.name if twin else _transposed(g, x, order),
        kernel_shape=[int(window[a]) for a in space],
        strides=[int(params["window_strides"][a]) for a in space],
        pads=[int(padding[a][side]) for side in (0, 1) for a in space],
        dilations=[int(params["window_dilation"][a]) for a in space],
    )[0]
    return [with_twin(g, name, tuple(results[0].shape[axis] for axis in order), results[0])]


def _gather(
    g: Graph, eq: Equation, inputs: list[Value], specs: list[Spec], results: list[Spec]
) -> list[Value]:
    numbers, sizes, shape = eq.params["dimension_numbers"], eq.params["slice_sizes"], specs[0].shape
    batch, indexed = tuple(numbers.operand_batching_dims), tuple(numbers.start_index_map)
    kept = [axis for axis in range(len(shape)) if axis not in (*batch, *indexed)]
    whole = all(sizes[axis] == shape[axis] for axis in kept)
    if not whole or set(numbers.collapsed_slice_dims) != set(indexed):
        raise UntranslatableError("the JAX primitive 'gather' is known of whole slices alone")
    x, indices = _whole(g, inputs, specs)
    index_batch = tuple(numbers.start_indices_batching_dims)
    others = [axis for axis in range(len(specs[1].shape) - 1) if axis not in index_batch]
    x = _transposed(g, x, (*batch, *indexed, *kept))
    indices = _transposed(g, indices, (*index_batch, *others, len(specs[1].shape) - 1))
    indices, outside = _in_bounds(g, _as(g, indices, np.int64), tuple(shape[a] for a in indexed), eq)
    if len(indexed) == 1 and not batch:  # Gather is the faster of the two
        name = g.op("Gather", x, g.op("Squeeze", indices, g.integers([-1]))[0])[0]
    else:
        name = g.op("GatherND", x, indices, batch_dims=len(batch))[0]
    if outside is not None:
        name = _filled(g, name, outside, len(kept), eq.params["fill_value"], results[0].dtype)
    # The axes of the indices stand in their own order around those of the slices.
    rank, order = len(results[0].shape), [*index_batch, *others]
    places = [axis for axis in range(rank) if axis not in numbers.offset_dims]
    found = [places[axis] for axis in order] + list(numbers.offset_dims)
    return [Value(_transposed(g, name, np.argsort(found).tolist()), results[0].shape)]


def _in_bounds(g: Graph, indices: str, extents: Shape, eq: Equation) -> tuple[str, str | None]:
    """Indices that exist, and which were none; None where JAX does not ask for it."""
    mode = eq.params["mode"].name
    if mode == "PROMISE_IN_BOUNDS":
        return indices, None
    ends = g.op("Sub", g.shape(tuple(extents)), g.integers([1]))[0]
    zero = g.integers([0])
    clipped = g.op("Min", g.op("Max", indices, zero)[0], ends)[0]
    if mode == "CLIP":
        return clipped, None
    moved = _as(g, g.op("Not", g.op("Equal", clipped, indices)[0])[0], np.int32)
    return clipped, g.op(
        "Greater", g.op("ReduceMax", moved, g.integers([-1]), keepdims=0)[0], g.constant(np.int32(0)).name
    )[0]


def _filled(g: Graph, name: str, outside: str, kept: int, fill: Any, dtype: np.dtype) -> str:
    if fill is None:  # what JAX takes then
        fill = (
            np.nan if dtype.kind == "f" else np.iinfo(dtype).min if dtype.kind == "i" else np.iinfo(dtype).max
        )
    if kept:
        outside = g.op("Unsqueeze", outside, g.integers([-1 - axis for axis in range(kept)]))[0]
    return g.op("Where", outside, g.constant(np.asarray(fill, dtype)).name, name)[0]


PRIMITIVES: dict[str, Translation] = {
    **{
        name: _elementwise(kind)
        for name, kind in {
            "abs": "Abs",
            "add": "Add",
            "add_any": "Add",
            "ceil": "Ceil",
            "cos": "Cos",
            "div": "Div",
            "eq": "Equal",
            "erf": "Erf",
            "exp": "Exp",
            "floor": "Floor",
            "ge": "GreaterOrEqual",
            "gt": "Greater",
            "le": "LessOrEqual",
            "log": "Log",
            "logistic": "Sigmoid",
            "lt": "Less",
            "max": "Max",
            "min": "Min",
            "mul": "Mul",
            "ne": ("Equal", "Not"),
            "neg": "Neg",
            "pow": "Pow",
            "rsqrt": ("Sqrt", "Reciprocal"),
            "sign": "Sign",
            "sin": "Sin",
            "sqrt": "Sqrt",
            "sub": "Sub",
            "tanh": "Tanh",
        }.items()
    },
    **{name: _logical(kind) for name, kind in {"and": "And", "or": "Or", "xor": "Xor", "not": "Not"}.items()},
    **dict.fromkeys(("copy", "copy_p", "optimization_barrier", "stop_gradient"), _identity),
    **{f"reduce_{name}": _reduction(f"Reduce{name.title()}") for name in ("max", "min", "sum", "prod")},
    "argmax": _argument("ArgMax"),
    "argmin": _argument("ArgMin"),
    "broadcast_in_dim": _broadcast,
    "clamp": _clamp,
    "concatenate": _concatenate,
    "conv_general_dilated": _convolution,
    "convert_element_type": _cast,
    "cummax": _cumulative_maximum,
    "cumsum": _cumulative_sum,
    "dot_general": _product,
    "gather": _gather,
    "integer_pow": _power,
    "iota": _iota,
    "pad": _pad,
    "reduce_window_max": _max_pool,
    "reshape": _reshape,
    "select_n": _select,
    "slice": _slice,
    "split": _split,
    "square": _twice,
    "squeeze": _reshape,
    "stack": _stack,
    "tile": _tile,
    "transpose": _transpose,
}
"""Name of a JAX primitive to its translation."""

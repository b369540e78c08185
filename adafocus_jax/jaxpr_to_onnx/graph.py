"""An ONNX graph that grows node by node."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from adafocus_jax.jaxpr_to_onnx.program import Rows, Shape, Size

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class Value:
    """A value of the graph."""

    name: str
    shape: Shape
    """What it has in the graph: an axis along which all is the same may be of length 1 until somebody needs it."""
    array: np.ndarray | None = None
    """Of a constant."""
    twin: Twin | None = None
    """The same numbers with channels before space, where a convolution made them."""


@dataclass(frozen=True)
class Twin:
    """A value ``[N, C, *space]`` of which ``[N, *space, C]``, reshaped, is the value that has this as its twin."""

    name: str
    shape: Shape


class Graph:
    """Nodes and constants under names that are unique; ``scope`` comes before the names of new ones."""

    def __init__(self, rows_of: str) -> None:
        """``rows_of`` is an input whose leading axis is the free one, if there is one."""
        self.scope = ""
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}
        self._rows_of = rows_of
        self._numbers: dict[str, int] = {}
        self._made: dict[Any, str] = {}
        self._outputs: set[str] = set()

    def constant(self, array: Any, name: str = "constant") -> Value:
        """A constant; small ones of equal content are the same."""
        array = np.asarray(array)
        key = (array.dtype.str, array.shape, array.tobytes()) if array.size < 64 else object()
        if key not in self._made:
            self._made[key] = self._unique(name)
            self.constants[self._made[key]] = array
        return Value(self._made[key], array.shape, array)

    def integers(self, values: Sequence[int]) -> str:
        """The name of a constant vector of int64."""
        return self.constant(np.array(values, np.int64)).name

    def op(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> list[str]:
        """Adds a node; returns the names of its outputs."""
        import onnx

        name = self._unique(kind)
        names = [name] if outputs == 1 else [f"{name}.{number}" for number in range(outputs)]
        self.nodes.append(onnx.helper.make_node(kind, inputs, names, name=name, **attributes))
        return names

    def expanded(self, value: Value, shape: Shape) -> str:
        """The name of ``value`` with every axis at the length of ``shape``."""
        if value.shape == shape:
            return value.name
        return self.op("Expand", value.name, self.shape(shape))[0]

    def reshaped(self, name: str, shape: Shape) -> str:
        """``name`` in another shape."""
        free = [size for size in shape if isinstance(size, Rows)]
        if len(free) == 1:
            return self.op("Reshape", name, self.integers([-1 if s in free else _fixed(s) for s in shape]))[0]
        return self.op("Reshape", name, self.shape(shape))[0]

    def shape(self, shape: Shape) -> str:
        """A vector of int64 that holds ``shape``."""
        if not any(isinstance(size, Rows) for size in shape):
            return self.integers([_fixed(size) for size in shape])
        parts = [self.size(size) for size in shape]
        return parts[0] if len(parts) == 1 else self.op("Concat", *parts, axis=0)[0]

    def size(self, size: Size) -> str:
        """A vector of int64 that holds one size."""
        if not isinstance(size, Rows):
            return self.integers([size])
        if size not in self._made:
            rows = self._made.get(Rows(1)) or self.op("Shape", self._rows_of, start=0, end=1)[0]
            self._made.setdefault(Rows(1), rows)
            if size.times != 1:
                rows = self.op("Mul", rows, self.integers([size.times]))[0]
            if size.plus:
                rows = self.op("Add", rows, self.integers([size.plus]))[0]
            self._made[size] = rows
        return self._made[size]

    def name_output(self, name: str, output: str) -> None:
        """Makes ``name`` known as an output of the model: under that name alone where a node makes it."""
        import onnx

        maker = next((node for node in self.nodes if name in node.output), None)
        if maker is None or name in self._outputs:
            self.nodes.append(onnx.helper.make_node("Identity", [name], [output], name=output))
        else:
            for node in self.nodes:
                for names in (node.input, node.output):
                    names[:] = [output if one == name else one for one in names]
        self._outputs.add(output)

    def prune(self, outputs: Collection[str]) -> None:
        """Drops the nodes that no output depends on."""
        wanted, kept = set(outputs), []
        for node in reversed(self.nodes):
            if wanted.intersection(node.output):
                wanted.update(node.input)
                kept.append(node)
        self.nodes = kept[::-1]

    def _unique(self, name: str) -> str:
        name = f"{self.scope}/{name}" if self.scope else name
        number = self._numbers[name] = self._numbers.get(name, -1) + 1
        return f"{name}_{number}" if number else name

    def model(
        self,
        inputs: Mapping[str, tuple[Shape, np.dtype]],
        outputs: Mapping[str, tuple[Shape, np.dtype]],
        *,
        name: str,
        free_axis: str | None,
        opset: int,
        descriptions: Mapping[str, str],
    ) -> onnx.ModelProto:
        """The finished model."""
        from onnx import helper, numpy_helper

        def declared(values: Mapping[str, tuple[Shape, np.dtype]]) -> list[Any]:
            return [
                helper.make_tensor_value_info(
                    key,
                    helper.np_dtype_to_tensor_dtype(dtype),
                    [free_axis if isinstance(size, Rows) else size for size in shape],
                    doc_string=descriptions.get(key, ""),
                )
                for key, (shape, dtype) in values.items()
            ]

        read = {key for node in self.nodes for key in node.input}
        constants = [
            numpy_helper.from_array(array, key) for key, array in self.constants.items() if key in read
        ]
        graph = helper.make_graph(self.nodes, name, declared(inputs), declared(outputs), constants)
        return helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10, producer_name="adafocus_jax"
        )


def _fixed(size: Size) -> int:
    assert not isinstance(size, Rows)
    return int(size)

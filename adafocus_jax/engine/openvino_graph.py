"""ONNX models compiled by OpenVINO, after what it does not do by itself."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import sys
import threading
from types import ModuleType
from typing import Any, cast

import jax

log = logging.getLogger(__name__)

PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}
"""Name to OpenVINO's."""

_ONE_AT_A_TIME = threading.Lock()
"""OpenVINO sets the locale to "C" while it uses its cache, and then back to what it was before: two at once leave it
there, and text is ASCII from then on. Nor can two write the same file. It takes all cores for one anyway."""


def is_installed() -> bool:
    """Whether OpenVINO and what it is given models by are there."""
    return all(importlib.util.find_spec(name) is not None for name in ("openvino", "onnx"))


def compile_onnx(model: Any, rows: int, precision: str = "float32", streams: int = 1) -> Any:
    """Compiles an ONNX model for this CPU; kept on disk where JAX keeps its programs (``jax_compilation_cache_dir``).

    Args:
      model: an ``onnx.ModelProto`` whose inputs have a free leading axis.
      rows: length of that axis.
      precision: a key of ``PRECISIONS``. In bfloat16, all before the first convolution or product of matrices, such as
        the coordinates of patches, stays in float32.
      streams: how many inferences may run at a time, each on its share of the cores.

    Returns:
      An ``openvino.CompiledModel``.
    """
    core = import_openvino().Core()
    settings: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": PRECISIONS[precision],
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": streams,
    }
    if folder := cast(Any, jax.config).jax_compilation_cache_dir:
        settings["CACHE_DIR"] = os.path.join(folder, "openvino")
    with _ONE_AT_A_TIME:
        graph = core.read_model(model.SerializeToString())
        graph.reshape({value: [rows, *list(value.get_partial_shape())[1:]] for value in graph.inputs})
        passes = import_openvino("openvino.passes")
        manager = passes.Manager()
        manager.register_pass(passes.ConstantFolding())  # else kernels and biases are the results of nodes
        manager.run_passes(graph)
        if precision != "float32":
            _keep_float32_before_networks(graph)
        _put_rows_innermost(graph)
        try:
            return core.compile_model(graph, "CPU", settings)
        except RuntimeError as error:
            # Of the cache, perhaps: another process writes the same file, or the disk is full.
            if settings.pop("CACHE_DIR", None) is None:
                raise
            log.info("a compiled model is not kept: %s", " ".join(str(error).split()))
            return core.compile_model(graph, "CPU", settings)


def import_openvino(module: str = "openvino") -> Any:
    """The package ``openvino``, or a module of it."""
    # On import it would send usage data, from a process forked of this one, whose threads do not survive that. Without
    # the package that sends, it does not.
    sys.modules.setdefault("openvino_telemetry", cast(ModuleType, None))
    return importlib.import_module(module)


def _keep_float32_before_networks(graph: Any) -> None:
    """Makes an output of what the first convolutions and products are given: OpenVINO computes those in full precision.

    In bfloat16, with 8 bits, coordinates of pixels would be off by up to half a pixel at 128, a whole one at 256.
    """
    rounded: set[str] = set()
    given: dict[str, Any] = {}
    for node in graph.get_ordered_ops():
        sources = {value.get_node().get_friendly_name(): value for value in node.input_values()}
        if node.get_type_name() in _NETWORK_NODES or rounded.intersection(sources):
            rounded.add(node.get_friendly_name())
            given |= sources
    for name in given.keys() - rounded:
        value = given[name]
        plain = value.get_node().get_type_name() in ("Constant", "Parameter")
        if not plain and value.get_element_type().get_type_name() == "f32":
            graph.add_outputs(value)


_NETWORK_NODES = ("Convolution", "GroupConvolution", "MatMul")


_NARROW = 4
"""oneDNN's convolutions take a row of pixels at a time: one of up to 4 leaves most of their registers idle."""


def _put_rows_innermost(graph: Any) -> None:
    """Makes convolutions over narrow maps ``[N, C, h, w]`` such over ``[1, C, h, w, N]``: up to 1.5 times as fast.

    Their numbers stay the same. What follows them element by element, such as the sum and the activation of a block,
    follows them there, so that whole stages of a network are transposed once before and once after.
    """
    ops = import_openvino("openvino.opset13")
    wide: dict[str, Any] = {}
    """Name of a node to the same value with its rows innermost."""

    def widened(value: Any) -> Any:
        return ops.unsqueeze(value, ops.constant([-1]))

    for node in graph.get_ordered_ops():
        kind, given = node.get_type_name(), node.input_values()
        if kind not in ("Convolution", "Add", "Relu", "Clamp") or len(given[0].get_partial_shape()) != 4:
            continue
        found = [wide.get(value.get_node().get_friendly_name()) for value in given]
        attributes = node.get_attributes()
        if kind == "Convolution":
            rows, *_, width = node.output(0).get_shape()
            if width > _NARROW or rows < _NARROW:
                continue
            rows_last = ops.unsqueeze(ops.transpose(given[0], [1, 2, 3, 0]), ops.constant([0]))
            new = ops.convolution(
                found[0] or rows_last,
                widened(given[1]),
                *([*attributes[key], rest] for key, rest in _CONVOLUTION),
            )
        elif any(found) and all(
            new or _is_of_all_rows(value) for value, new in zip(given, found, strict=True)
        ):
            inputs = [new or widened(value) for value, new in zip(given, found, strict=True)]
            bounds = (attributes["min"], attributes["max"]) if kind == "Clamp" else ()
            new = getattr(ops, kind.lower())(*inputs, *bounds)
        else:
            continue
        new.set_friendly_name(f"{node.get_friendly_name()}/rows_innermost")
        back = ops.transpose(ops.squeeze(new, ops.constant([0])), [3, 0, 1, 2])
        wide[back.get_friendly_name()] = new.output(0)
        node.output(0).replace(back.output(0))


def _is_of_all_rows(value: Any) -> bool:
    constant = value.get_node().get_type_name() == "Constant"
    return constant and (len(value.get_shape()) < 4 or value.get_shape()[0] == 1)


_CONVOLUTION = (("strides", 1), ("pads_begin", 0), ("pads_end", 0), ("dilations", 1))
"""Attributes of a convolution, with what they are along its rows."""

"""OpenVINO behind the engine: on Intel and other CPUs faster than XLA, with the same numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

from adafocus_jax.engine.backend import Fetch, pool_of
from adafocus_jax.engine.openvino_graph import compile_onnx, is_installed
from adafocus_jax.engine.stage_program import stage_programs
from adafocus_jax.errors import UserError
from adafocus_jax.flops import StageCost
from adafocus_jax.jaxpr_to_onnx import to_onnx
from adafocus_jax.models import VideoModel


class OpenVinoBackend:
    """Programs of OpenVINO. State lies in NumPy tables on the host; one thread runs bucket after bucket."""

    def __init__(
        self,
        model: VideoModel,
        variables: Any,
        costs: Sequence[StageCost],
        capacity: Mapping[str, int],
        device: jax.Device,
        precision: str = "float32",
    ) -> None:
        """Arguments as of ``XlaBackend``; ``precision`` as of ``compile_onnx``, the policies in float32 in any case."""
        if device.platform != "cpu":
            raise UserError(
                f"backend='openvino' runs on CPUs, and JAX's devices are {device.platform}: take 'xla'"
            )
        if not is_installed():
            raise UserError("backend='openvino' needs OpenVINO: pip install 'adafocus_jax[openvino]'")
        self._precision, self._variables = precision, variables
        self._programs = stage_programs(model, costs)
        self._graphs = {
            name: to_onnx(program, variables, program.inputs, name=name, free_axis="rows")
            for name, program in self._programs.items()
        }
        shapes = {name: shape for p in self._programs.values() for name, shape in p.inputs.items()}
        self._pools = {name: pool_of(name, costs) for cost in costs for name in cost.stage.reads}
        self._tables = {
            name: np.zeros((capacity[pool] + 1, *shapes[name].shape), shapes[name].dtype)
            for name, pool in self._pools.items()
        }
        self._compiled: dict[tuple[str, int], Any] = {}
        self._thread = ThreadPoolExecutor(1, "openvino")

    def compile(self, stage: str, size: int) -> None:
        """Compiles one program; a second call for the same does nothing."""
        if (stage, size) in self._compiled:
            return
        program, graph = self._programs[stage], self._graphs[stage]
        if size == 1 and program.cost.stage.rows > 1:  # a single patch reads the weights of one exit alone
            row = {n: jax.ShapeDtypeStruct((1, *s.shape), s.dtype) for n, s in program.inputs.items()}
            graph = to_onnx(program, self._variables, row, name=stage)
        precision = self._precision if "frames" in program.inputs else "float32"
        compiled = compile_onnx(graph, size, precision)
        self._compiled[stage, size] = compiled.create_infer_request()

    def put(self, inputs: Mapping[str, np.ndarray]) -> Mapping[str, Any]:
        """Nothing to copy: the device is the host."""
        return inputs

    def launch(
        self, stage: str, size: int, inputs: Mapping[str, Any], slots: Mapping[str, np.ndarray]
    ) -> Fetch:
        """Starts a bucket; see ``Backend``."""
        request, program = self._compiled[stage, size], self._programs[stage]
        rows = {name: slots[pool] for name, pool in self._pools.items()}

        def run() -> dict[str, np.ndarray]:
            state = {name: self._tables[name][rows[name]] for name in program.cost.stage.reads}
            found = request.infer({**inputs, **state}, share_inputs=True, share_outputs=True)
            for output, name in program.outputs.items():
                self._tables[name][rows[name]] = found[output]
            return {name: np.array(found[name]) for name in program.cost.outputs}

        return self._thread.submit(run).result

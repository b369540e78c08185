"""OpenVINO behind the engine: on Intel and other CPUs faster than XLA, with the same numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

from adafocus_jax.engine.backend import Fetch, pool_of
from adafocus_jax.engine.openvino_graph import compile_onnx, import_openvino, is_installed
from adafocus_jax.engine.stage_program import EncoderProgram, split_program, stage_programs
from adafocus_jax.errors import UserError
from adafocus_jax.flops import StageCost
from adafocus_jax.jaxpr_to_onnx import to_onnx
from adafocus_jax.models import VideoModel

_FRAMES_AT_ONCE = {"glance": 2, "look": 8}
"""Frames that an encoder is given at a time: of more at 224 px, MobileNetV2's maps leave a core's cache; for fewer
patches, ResNet-50 reads its weights too often."""


class OpenVinoBackend:
    """Programs of OpenVINO. State lies in NumPy tables on the host; one thread runs bucket after bucket.

    An encoder that sees frames one by one is given a few at a time on each core: cores neither wait for each other
    after every layer, nor does a layer's result leave their caches before the next one reads it.
    """

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
        shapes = {name: shape for p in self._programs.values() for name, shape in p.inputs.items()}
        self._encoders: dict[str, EncoderProgram] = {}
        for name, program in self._programs.items():
            if split := split_program(program, variables):
                self._encoders[name], self._programs[name] = split
        self._graphs, self._encoder_graphs = (
            {
                name: to_onnx(program, variables, program.inputs, name=name, free_axis="rows")
                for name, program in programs.items()
            }
            for programs in (self._programs, self._encoders)
        )
        self._pools = {name: pool_of(name, costs) for cost in costs for name in cost.stage.reads}
        self._tables = {
            name: np.zeros((capacity[pool] + 1, *shapes[name].shape), shapes[name].dtype)
            for name, pool in self._pools.items()
        }
        self._compiled: dict[tuple[str, int], tuple[Any, list[str]]] = {}
        """A request, and the names of what it reads: what its outputs do not depend on is no input of a graph."""
        self._compiled_encoders: dict[tuple[str, int], _Encoder] = {}
        self._thread = ThreadPoolExecutor(1, "openvino")

    def compile(self, stage: str, size: int) -> None:
        """Compiles one program; a second call for the same does nothing."""
        if (stage, size) in self._compiled:
            return
        program, graph = self._programs[stage], self._graphs[stage]
        if size == 1 and program.cost.stage.rows > 1:  # a single patch reads the weights of one exit alone
            row = {n: jax.ShapeDtypeStruct((1, *s.shape), s.dtype) for n, s in program.inputs.items()}
            graph = to_onnx(program, self._variables, row, name=stage)
        precision = self._precision if "frames" in program.cost.stage.inputs else "float32"
        compiled = compile_onnx(graph, size, precision)
        names = [port.any_name for port in compiled.inputs]
        self._compiled[stage, size] = compiled.create_infer_request(), names
        if stage in self._encoders:
            frames = size * program.cost.stage.inputs["frames"].shape[0]
            cores = compiled.get_property("INFERENCE_NUM_THREADS")
            at_once = _frames_at_once(frames, cores, _FRAMES_AT_ONCE[stage])
            encoder = compile_onnx(
                self._encoder_graphs[stage], at_once, precision, streams=min(cores, frames // at_once)
            )
            self._compiled_encoders[stage, size] = _Encoder(encoder, self._encoders[stage], frames)

    def put(self, inputs: Mapping[str, np.ndarray]) -> Mapping[str, Any]:
        """Nothing to copy: the device is the host."""
        return inputs

    def launch(
        self, stage: str, size: int, inputs: Mapping[str, Any], slots: Mapping[str, np.ndarray]
    ) -> Fetch:
        """Starts a bucket; see ``Backend``."""
        (request, names), program = self._compiled[stage, size], self._programs[stage]
        encoder = self._compiled_encoders.get((stage, size))
        places = {name: slots[pool] for name, pool in self._pools.items()}

        def run() -> dict[str, np.ndarray]:
            state = {name: self._tables[name][places[name]] for name in program.cost.stage.reads}
            given = {**inputs, **state}
            if encoder is not None:
                encoded = encoder(inputs)
                given |= {n: array.reshape(size, -1, *array.shape[2:]) for n, array in encoded.items()}
            read = {name: given[name] for name in names}
            found = request.infer(read, share_inputs=True, share_outputs=True)
            for output, name in program.outputs.items():
                self._tables[name][places[name]] = found[output]
            return {name: np.array(found[name]) for name in program.cost.outputs}

        return self._thread.submit(run).result


def _frames_at_once(frames: int, cores: int, most: int) -> int:
    """The most, up to ``most``, that share ``frames`` out evenly among the cores.

    >>> [_frames_at_once(frames, 2, 8) for frames in (1, 2, 12, 16, 48)]
    [1, 1, 6, 8, 8]
    """
    sizes = [size for size in range(1, min(most, frames) + 1) if frames % size == 0]
    even = [size for size in sizes if frames // size % cores == 0]
    return max(even, default=1)


class _Encoder:
    """An encoder that runs over frames, a few at a time on each stream."""

    def __init__(self, compiled: Any, program: EncoderProgram, frames: int) -> None:
        self._at_once = compiled.input(0).get_shape()[0]
        self._outputs = {
            name: np.empty((frames, *list(compiled.output(name).get_shape())[1:]), np.float32)
            for name in program.outputs
        }
        self._inputs, self._frames = program.inputs, frames
        self._queue = import_openvino().AsyncInferQueue(compiled)
        self._queue.set_callback(self._keep)

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """From inputs ``[rows, frames, …]`` to outputs ``[rows · frames, 1, …]``, valid until the next call."""
        rows = {
            name: inputs[name].reshape(self._frames, *shape.shape) for name, shape in self._inputs.items()
        }
        for first in range(0, self._frames, self._at_once):
            some = {name: array[first : first + self._at_once] for name, array in rows.items()}
            self._queue.start_async(some, first, share_inputs=True)
        self._queue.wait_all()
        return self._outputs

    def _keep(self, request: Any, first: int) -> None:
        for name, array in self._outputs.items():
            array[first : first + self._at_once] = request.get_tensor(name).data

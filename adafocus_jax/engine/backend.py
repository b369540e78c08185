"""How a stage is run on a device: the interface, and XLA behind it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from adafocus_jax.flops import StageCost
from adafocus_jax.models import VideoModel
from adafocus_jax.models.stages import Arrays
from adafocus_jax.ops.platform import lowering_for

Fetch = Callable[[], dict[str, np.ndarray]]
"""Waits for a bucket that runs, and returns its outputs with all its rows."""


class Backend(Protocol):
    """Runs the stages of one model on one device, and keeps there what later stages of a video read.

    That state lies in tables with a row (a slot) for each video that needs it, and one more for padding.
    """

    def compile(self, stage: str, size: int) -> None:
        """Makes the program for buckets of ``size`` rows ready to run."""

    def put(self, inputs: Mapping[str, np.ndarray]) -> Mapping[str, Any]:
        """Copies inputs to the device ahead of ``launch``, which takes either."""

    def launch(
        self, stage: str, size: int, inputs: Mapping[str, Any], slots: Mapping[str, np.ndarray]
    ) -> Fetch:
        """Starts a bucket and returns without waiting for it; buckets run in the order in which they are started.

        Args:
          stage: the name of a compiled stage.
          size: rows of the bucket, compiled.
          inputs: the stage's ``inputs``, each ``[size, …]``.
          slots: ``[size]`` int32 for each pool: the row of the pool's tables that belongs to each row of the bucket.
        """


def pool_of(name: str, costs: Sequence[StageCost]) -> str:
    """The stage that reads the state ``name`` last: slots of all such state are given and taken together."""
    return [cost.stage.name for cost in costs if name in cost.stage.reads][-1]


class XlaBackend:
    """Programs of XLA, compiled ahead of time for fixed shapes: any other shape is an error, never a compilation.

    The tables stay on the device and are updated in place; all that the host wants of a bucket comes as one array.
    """

    def __init__(
        self,
        model: VideoModel,
        variables: Any,
        costs: Sequence[StageCost],
        capacity: Mapping[str, int],
        device: jax.Device,
    ) -> None:
        """Puts the weights on the device, and tables of ``capacity`` slots per pool."""
        self._model, self._device = model, device
        self._costs = {cost.stage.name: cost for cost in costs}
        leaves, self._structure = jax.tree.flatten(variables)
        self._leaves = [jax.device_put(leaf, device) for leaf in leaves]
        read = {name for cost in costs for name in cost.stage.reads}
        self._pools = {name: pool_of(name, costs) for name in sorted(read)}
        shapes = {name: shape for cost in costs for name, shape in cost.state.items() if name in read}
        self._tables = {
            name: jax.device_put(
                jnp.zeros((capacity[self._pools[name]] + 1, *shape.shape), shape.dtype), device
            )
            for name, shape in shapes.items()
        }
        self._programs: dict[tuple[str, int], Any] = {}

    def compile(self, stage: str, size: int) -> None:
        """Compiles one program; a second call for the same does nothing."""
        if (stage, size) in self._programs:
            return
        cost = self._costs[stage]
        used = [leaf for leaf, reads in zip(self._leaves, cost.variables_read, strict=True) if reads]
        read, written = self._table_names(cost)
        shapes = {
            name: jax.ShapeDtypeStruct((size, *s.shape), s.dtype) for name, s in cost.stage.inputs.items()
        }
        slots = {pool: jax.ShapeDtypeStruct((size,), jnp.int32) for pool in self._slot_pools(read, written)}
        tables = tuple({name: self._tables[name] for name in names} for names in (read, written))
        sharding = jax.sharding.SingleDeviceSharding(self._device)
        step = jax.jit(self._step(cost), donate_argnums=2, in_shardings=sharding, out_shardings=sharding)
        with lowering_for(self._device.platform):
            lowered = step.lower(used, *tables, shapes, slots)
        self._programs[stage, size] = (lowered.compile(), used, read, written, tuple(slots))

    def _table_names(self, cost: StageCost) -> tuple[list[str], list[str]]:
        """Tables that the stage only reads, and those that it writes."""
        written = [name for name in self._tables if name in cost.state]
        return [name for name in cost.stage.reads if name not in written], written

    def _slot_pools(self, *names: Sequence[str]) -> list[str]:
        return sorted({self._pools[name] for group in names for name in group})

    def _step(self, cost: StageCost) -> Callable[..., tuple[Arrays, jax.Array]]:
        """From (weights, tables read, tables written, inputs, slots) to (tables written, packed outputs)."""
        shapes = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in self._leaves]

        def step(
            used: list[jax.Array], read: Arrays, written: Arrays, inputs: Arrays, slots: Arrays
        ) -> tuple[Arrays, jax.Array]:
            given = iter(used)
            leaves = [
                next(given) if reads else jnp.zeros(shape.shape, shape.dtype)  # in nothing that is computed
                for shape, reads in zip(shapes, cost.variables_read, strict=True)
            ]
            variables = jax.tree.unflatten(self._structure, leaves)
            tables = read | written
            state = {name: tables[name][slots[self._pools[name]]] for name in cost.stage.reads}
            outputs, kept = self._model.apply(variables, inputs, state, method=cost.stage.run)
            written = {name: written[name].at[slots[self._pools[name]]].set(kept[name]) for name in written}
            return written, _pack(outputs)

        return step

    def put(self, inputs: Mapping[str, np.ndarray]) -> Mapping[str, Any]:
        """Copies inputs to the device."""
        return {name: jax.device_put(array, self._device) for name, array in inputs.items()}

    def launch(
        self, stage: str, size: int, inputs: Mapping[str, Any], slots: Mapping[str, np.ndarray]
    ) -> Fetch:
        """Starts a bucket; see ``Backend``."""
        program, used, read, written, pools = self._programs[stage, size]
        tables = ({name: self._tables[name] for name in names} for names in (read, written))
        kept, packed = program(used, *tables, dict(inputs), {pool: slots[pool] for pool in pools})
        self._tables |= kept
        packed.copy_to_host_async()
        return lambda: _unpack(np.asarray(packed), self._costs[stage].outputs)


def _pack(outputs: Arrays) -> jax.Array:
    """All outputs, of 4 bytes each, as one array ``[rows, …]`` of 32-bit integers."""
    words = [jax.lax.bitcast_convert_type(outputs[name], jnp.int32) for name in sorted(outputs)]
    return jnp.concatenate([word.reshape(len(word), -1) for word in words], axis=1)


def _unpack(packed: np.ndarray, shapes: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, np.ndarray]:
    outputs, start = {}, 0
    for name in sorted(shapes):
        shape = shapes[name]
        width = math.prod(shape.shape)
        part = packed[:, start : start + width]
        outputs[name] = np.ascontiguousarray(part).view(shape.dtype).reshape(len(packed), *shape.shape)
        start += width
    return outputs

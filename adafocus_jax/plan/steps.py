"""A step compiled for a slice: memory, collectives, gathers, and an estimate of its time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from adafocus_jax.evaluate.predict import predict_step
from adafocus_jax.models import VideoModel, variable_shapes
from adafocus_jax.plan.chips import Topology
from adafocus_jax.plan.program import Collective, Gather, collectives, large_gathers, loops
from adafocus_jax.train.memory import StepMemory, compile_step, step_memory
from adafocus_jax.train.step import shapes_on
from adafocus_jax.types import VideoBatch


@dataclass(frozen=True)
class StepPlan:
    """What one chip needs for a step, read off the compiled program."""

    memory: StepMemory
    collectives: dict[str, Collective]
    gathers: list[Gather]
    flops: float
    """FLOPs of all operations, 2 per multiply-add; a loop's body counts once."""
    bytes_accessed: float
    loops: list[int]
    """Trip counts of loops."""


@dataclass(frozen=True)
class Estimate:
    """A lower bound of the step time from the chip's published limits (roofline). Not a measurement."""

    compute_sec: float
    memory_sec: float
    collectives_sec: float
    step_sec: float
    """The larger of compute and memory time, plus the collectives."""


def lower_evaluation(
    model: VideoModel, batch: VideoBatch, devices: Sequence[jax.Device]
) -> jax.stages.Lowered:
    """The evaluation step on the shapes of a global batch, split over ``devices``."""
    mesh = Mesh(np.array(devices), ("batch",))
    everywhere, split = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec("batch"))

    key, variables = jax.eval_shape(lambda: jax.random.key(0)), variable_shapes(model)
    number = jax.ShapeDtypeStruct((), jnp.uint32)
    seen = VideoBatch(frames=batch.frames, glance=batch.glance)
    lowered = predict_step(model).lower(
        shapes_on(everywhere, variables),
        shapes_on(split, seen),
        *shapes_on(everywhere, (key, number, number)),
    )
    return cast(jax.stages.Lowered, lowered)


def plan_step(lowered: jax.stages.Lowered) -> StepPlan:
    """Compiles a step and reads off its memory, traffic and FLOPs.

    Raises:
      OutOfMemoryError: it does not fit into a chip's memory.
    """
    compiled = compile_step(lowered)
    text = cast(str, compiled.as_text())
    cost = cast(dict[str, Any], compiled.cost_analysis())
    return StepPlan(
        memory=step_memory(compiled),
        collectives=collectives(text),
        gathers=large_gathers(text),
        flops=cost["flops"],
        bytes_accessed=cost["bytes accessed"],
        loops=loops(text),
    )


def estimate(plan: StepPlan, topology: Topology) -> Estimate:
    """The roofline: FLOPs over peak or bytes over HBM bandwidth, plus collectives on rings over the chip's links.

    Of n chips, each sends ``2 (n − 1)/n`` of the bytes of an all-reduce, ``(n − 1)/n`` of those of another collective.
    """
    chip, chips = topology.chip, len(topology.devices)
    compute, memory = plan.flops / chip.peak_flops, plan.bytes_accessed / chip.hbm_bytes_per_sec
    sent = sum(
        (2 if kind == "all-reduce" else 1) * (chips - 1) / chips * collective.bytes
        for kind, collective in plan.collectives.items()
    )
    between = sent / (chip.ici_bytes_per_sec / 2)
    return Estimate(compute, memory, between, max(compute, memory) + between)

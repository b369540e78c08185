"""The stages of a model as functions of named arrays alone, for programs that are not JAX's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from adafocus_jax.flops import StageCost
from adafocus_jax.models import VideoModel
from adafocus_jax.models.stages import Arrays, EncodeFunction


@dataclass(frozen=True)
class StageProgram:
    """A stage whose state goes in and comes out by name: what one returns as ``maps``, a later one takes as such."""

    model: VideoModel
    cost: StageCost
    inputs: Mapping[str, jax.ShapeDtypeStruct]
    """One row of each input, those of the stage first, then the state that it reads."""
    outputs: Mapping[str, str]
    """Each output that is state to the name that a later stage, or the next bucket of this one, knows it by."""

    def __call__(self, variables: Any, inputs: Mapping[str, Any]) -> Arrays:
        """All outputs, floats in float32."""
        stage = self.cost.stage
        given = {name: inputs[name] for name in self.inputs if name not in stage.reads}
        state = {name: inputs[name] for name in stage.reads}
        found, kept = self.model.apply(variables, given, state, method=stage.run)
        found = found | {name: kept[state_name] for name, state_name in self.outputs.items()}
        return {name: as_float32(value) for name, value in found.items()}


def stage_programs(model: VideoModel, costs: Sequence[StageCost]) -> dict[str, StageProgram]:
    """A program for each stage; state that a stage both reads and writes comes out as ``next_…``."""
    state = {name: shape for cost in costs for name, shape in cost.state.items()}
    read = {name for cost in costs for name in cost.stage.reads}
    programs = {}
    for cost in costs:
        stage = cost.stage
        inputs = {**stage.inputs, **{name: float32_shape(state[name]) for name in stage.reads}}
        outputs = {
            f"next_{name}" if name in stage.reads else name: name for name in cost.state if name in read
        }
        programs[stage.name] = StageProgram(model, cost, inputs, outputs)
    return programs


@dataclass(frozen=True)
class EncoderProgram:
    """``Stage.encode`` as a function of named arrays, whose rows are single frames ``[1, …]``."""

    model: VideoModel
    encode: EncodeFunction
    inputs: Mapping[str, jax.ShapeDtypeStruct]
    """One row of each input."""
    outputs: tuple[str, ...] = ()

    def __call__(self, variables: Any, inputs: Mapping[str, Any]) -> Arrays:
        """All outputs, floats in float32."""
        found: Arrays = self.model.apply(variables, dict(inputs), method=self.encode)  # type: ignore[assignment]
        return {name: as_float32(value) for name, value in found.items()}


def split_program(program: StageProgram, variables: Any) -> tuple[EncoderProgram, StageProgram] | None:
    """The encoder of a stage, and the rest of the stage, which takes its outputs; None where it is not to be split."""
    stage = program.cost.stage
    if stage.encode is None:
        return None
    seen = {name: shape for name, shape in stage.inputs.items() if shape.shape}
    frame = {name: jax.ShapeDtypeStruct((1, *s.shape[1:]), s.dtype) for name, s in seen.items()}
    encoder = EncoderProgram(program.model, stage.encode, frame)
    rows = {name: jax.ShapeDtypeStruct((1, *s.shape), s.dtype) for name, s in seen.items()}
    encoded = {
        name: jax.ShapeDtypeStruct(shape.shape[1:], shape.dtype)
        for name, shape in jax.eval_shape(encoder, variables, rows).items()
    }
    rest = {name: shape for name, shape in program.inputs.items() if name not in seen}
    return replace(encoder, outputs=tuple(encoded)), replace(program, inputs={**encoded, **rest})


def float32_shape(shape: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    """The same with float32 in place of other floats."""
    return jax.ShapeDtypeStruct(shape.shape, jnp.float32) if _floating(shape) else shape


def as_float32(value: Any) -> Any:
    """The same with float32 in place of other floats."""
    return value.astype(jnp.float32) if _floating(value) else value


def _floating(value: Any) -> bool:
    return bool(jnp.issubdtype(value.dtype, jnp.floating))

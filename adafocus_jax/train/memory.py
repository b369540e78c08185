"""What a compiled step takes of a device's memory, and whether the device has it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import jax

from adafocus_jax.errors import UserError

GIB = 2**30


@dataclass(frozen=True)
class StepMemory:
    """Bytes on one device while a step runs, by kind, as the compiler laid them out."""

    arguments: int
    """State and batch."""
    outputs: int
    """The next state and the scalars."""
    aliased: int
    """Outputs that take the place of donated arguments."""
    temporaries: int
    """Activations, gradients and whatever else lives inside the step; on TPUs only what lies in HBM."""
    code: int
    """The program itself."""
    total: int
    """The most at any moment, all kinds together."""


class OutOfMemoryError(Exception):
    """The compiler found no way to run a step in the device's memory."""

    def __init__(self, needed: int, available: int) -> None:
        super().__init__(f"needs {needed / GIB:.2f} GiB of {available / GIB:.2f}")
        self.needed = needed
        self.available = available


def compile_step(lowered: jax.stages.Lowered) -> jax.stages.Compiled:
    """Compiles; raises OutOfMemoryError where a compiler that knows its device's memory (TPU) says so."""
    try:
        return lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        found = _EXCEEDED.search(str(error))
        if found is None:
            raise
        used, capacity = (float(found[i]) * _UNITS[found[i + 1]] for i in (1, 3))
        raise OutOfMemoryError(round(used), round(capacity)) from error


def step_memory(compiled: jax.stages.Compiled) -> StepMemory:
    """The compiler's own account of a program on one device."""
    stats: Any = compiled.memory_analysis()
    kept = stats.argument_size_in_bytes + stats.output_size_in_bytes - stats.alias_size_in_bytes
    lasting = kept + stats.temp_size_in_bytes + stats.generated_code_size_in_bytes
    return StepMemory(
        arguments=stats.argument_size_in_bytes,
        outputs=stats.output_size_in_bytes,
        aliased=stats.alias_size_in_bytes,
        temporaries=stats.temp_size_in_bytes,
        code=stats.generated_code_size_in_bytes,
        # Neither figure alone: the peak leaves the program out, the sum some temporaries of TPUs.
        total=max(lasting, stats.peak_memory_in_bytes + stats.generated_code_size_in_bytes),
    )


def check_memory(lowered: jax.stages.Lowered, device: jax.Device) -> StepMemory | None:
    """Raises UserError when a step needs more memory than ``device`` has, before data are read and memory is taken.

    Args:
      lowered: of ``TrainStep.lower``. It is compiled; the first step runs that program.
      device: one of those it will run on.

    Returns:
      What the step needs; None, and nothing is compiled, where the device does not tell its memory (CPU).

    Raises:
      UserError: it does not fit.
    """
    limit = (device.memory_stats() or {}).get("bytes_limit")
    if limit is None:
        return None
    try:
        memory = step_memory(compile_step(lowered))
        needed = memory.total
    except OutOfMemoryError as error:
        needed, limit = error.needed, error.available
    if needed > limit:
        raise UserError(
            f"a training step needs {needed / GIB:.1f} GiB on each device, {device.device_kind} has "
            f"{limit / GIB:.1f}: take a smaller train.batch_size, model.dtype=bfloat16 or more devices"
        )
    return memory


_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_EXCEEDED = re.compile(
    r"(?:Used|temporaries) \(?([\d.]+)([KMGT]?)\)? (?:of|exceeds available HBM) \(?([\d.]+)([KMGT]?)(?: hbm|\))"
)
"""Both ways in which libtpu says it: after laying out a program, and where the values themselves are too large."""

"""TPU generations by their published specifications, and slices as the compiler describes them."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

import jax
from jax.experimental import topologies

from adafocus_jax.errors import UserError
from adafocus_jax.train.utilization import PEAK_TFLOPS


@dataclass(frozen=True)
class Chip:
    """One chip of a TPU generation."""

    kind: str
    """JAX's name of the device kind."""
    hbm_gib: float
    """HBM available to a program; libtpu reserves 0.25 to 1.25 GiB of the chip's."""
    hbm_bytes_per_sec: float
    ici_bytes_per_sec: float
    """Inter-chip links to all neighbours, both directions."""
    dimensions: int
    """Dimensions of the torus of which a slice is a part."""
    compiler_options: tuple[tuple[str, str], ...] = ()

    @property
    def peak_flops(self) -> float:
        """FLOP/s of bfloat16 matrix products; the same for float32, which by default is rounded to bfloat16."""
        return PEAK_TFLOPS[self.kind] * 1e12


# Google Cloud's documentation of each generation ("TPU v4", "TPU v5e", "TPU v5p", "TPU v6e"); the links of v4 are from
# Jouppi et al., "TPU v4: An Optically Reconfigurable Supercomputer", ISCA 2023; memory is from libtpu 0.0.42, where it
# refuses a program that is too large.
CHIPS: dict[str, Chip] = {
    # Both cores of a chip as one device, as jax.devices() shows them on a v4.
    "v4": Chip("TPU v4", 30.75, 1.2e12, 300e9, 3, (("chip_config_name", "megacore"),)),
    "v5e": Chip("TPU v5 lite", 15.75, 819e9, 400e9, 2),
    "v5p": Chip("TPU v5p", 95.74, 2.765e12, 1200e9, 3),
    "v6e": Chip("TPU v6 lite", 31.25, 1.638e12, 800e9, 2),
}
"""Generation to chip."""


@dataclass(frozen=True)
class Topology:
    """A slice."""

    name: str
    """Such as ``v5e:4x4``."""
    chip: Chip
    devices: Sequence[jax.Device]
    """One per chip. Programs are compiled for them; they hold no data and run nothing."""


def open_topology(name: str) -> Topology:
    """Describes the slice ``name`` to the compiler. Call it before JAX has started: it pins JAX to the CPU.

    Args:
      name: ``v5e:4x4``, ``v6e:2x2``, ``v4:2x2x4``, ``v5p:2x2x1``, …: generation and chips along each dimension.

    Raises:
      UserError: no such slice, or libtpu is not installed.
    """
    chip, sides = _parse(name)
    if importlib.util.find_spec("libtpu") is None:
        raise UserError("planning needs libtpu, the compiler for TPUs: pip install 'adafocus_jax[tpu]'")
    # Only the compiler is needed: do not wait for an absent TPU, nor lock a present one.
    jax.config.update("jax_platforms", "cpu")
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-4")
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    host = [min(side, most) for side, most in zip(sides, (2, 2, 1), strict=False)]
    options = {**dict(chip.compiler_options), "chips_per_host_bounds": (*host, 1)[:3]}
    try:
        found = topologies.get_topology_desc(platform="tpu", topology_name=name, **options)
    except jax.errors.JaxRuntimeError as error:
        raise UserError(f"no topology {name!r}: {str(error).splitlines()[0]}; {_FORMS}") from error
    return Topology(name, chip, found.devices)


_FORMS = (
    f"give one of {', '.join(CHIPS)} with its chips along each dimension, "
    "such as v5e:4x4, v6e:2x2, v4:2x2x4 or v5p:2x2x1"
)


def _parse(name: str) -> tuple[Chip, list[int]]:
    generation, _, shape = name.partition(":")
    chip = CHIPS.get(generation)
    if chip is None or not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", shape):
        raise UserError(f"unknown topology {name!r}: {_FORMS}")
    sides = [int(side) for side in shape.split("x")]
    if len(sides) != chip.dimensions:
        raise UserError(
            f"topology {name!r} has {len(sides)} dimensions, {generation} {chip.dimensions}: {_FORMS}"
        )
    return chip, sides

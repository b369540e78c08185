"""TPU slices by the name that Google gives them: chips, hosts, and what VMs and GKE call their parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from adafocus_jax.errors import UserError

CHIPS_PER_HOST = 4


@dataclass(frozen=True)
class Generation:
    """A TPU generation. Figures of November 2026."""

    cores_per_chip: int
    """The number behind the dash counts cores in v4 and v5p, chips in the others."""
    runtime: str
    """Software version of the TPU VMs."""
    gke: str
    """Value of the node label ``cloud.google.com/gke-tpu-accelerator``."""
    topologies: Mapping[int, str]
    """Chips to the topology that GKE knows."""


_CUBES = {
    4: "2x2x1",
    8: "2x2x2",
    16: "2x2x4",
    32: "2x4x4",
    64: "4x4x4",
    128: "4x4x8",
    256: "4x8x8",
    512: "8x8x8",
}
_SQUARES = {1: "1x1", 4: "2x2", 8: "2x4", 16: "4x4", 32: "4x8", 64: "8x8", 128: "8x16", 256: "16x16"}
GENERATIONS: dict[str, Generation] = {
    "v4": Generation(2, "tpu-ubuntu2204-base", "tpu-v4-podslice", _CUBES),
    "v5p": Generation(2, "v2-alpha-tpuv5", "tpu-v5p-slice", _CUBES),
    "v5litepod": Generation(1, "v2-alpha-tpuv5-lite", "tpu-v5-lite-podslice", _SQUARES),
    "v6e": Generation(1, "v2-alpha-tpuv6e", "tpu-v6e-slice", _SQUARES),
}


@dataclass(frozen=True)
class Slice:
    """A slice of TPUs."""

    name: str
    """Its accelerator type, such as ``v6e-64``."""
    generation: Generation
    chips: int

    @property
    def topology(self) -> str:
        """As GKE writes it, such as ``4x4x4``."""
        return self.generation.topologies[self.chips]

    @property
    def chips_per_host(self) -> int:
        """Of a node of GKE."""
        return min(self.chips, CHIPS_PER_HOST)

    @property
    def nodes(self) -> int:
        """Nodes of GKE."""
        return -(-self.chips // CHIPS_PER_HOST)

    @property
    def vm_hosts(self) -> int:
        """TPU VMs: eight chips of v5e and v6e are one machine there, and two nodes on GKE."""
        return 1 if self.chips == 8 and self.generation.cores_per_chip == 1 else self.nodes


def find_slice(name: str) -> Slice:
    """The slice of an accelerator type.

    >>> find_slice("v4-128").nodes, find_slice("v6e-64").topology, find_slice("v6e-8").vm_hosts
    (16, '8x8', 1)

    Raises:
      UserError: no such generation, or no such size.
    """
    generation, _, number = name.rpartition("-")
    if generation not in GENERATIONS or not number.isdigit():
        raise UserError(f"type={name!r} is not known: give one of {', '.join(f'{g}-N' for g in GENERATIONS)}")
    found = GENERATIONS[generation]
    chips, rest = divmod(int(number), found.cores_per_chip)
    if rest or chips not in found.topologies:
        sizes = ", ".join(f"{generation}-{chips * found.cores_per_chip}" for chips in found.topologies)
        raise UserError(f"type={name!r} is no size of {generation}: there are {sizes}")
    return Slice(name, found, chips)

"""How many rows run together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from adafocus_jax.flops import StageCost

Buckets = Mapping[str, Sequence[int]]
"""Name of a stage to the sizes of its compiled programs."""

_CPU_FRAMES, _CPU_MACS = 16, 2e8
"""Frames, and multiply-adds, that keep a CPU's cores busy; more of them fall out of its caches."""
_ACCELERATOR_FRAMES = 512


def default_buckets(costs: Sequence[StageCost], platform: str) -> dict[str, tuple[int, ...]]:
    """Powers of 2 up to what keeps one device of ``platform`` busy; of 4 where a row is a whole video.

    A stage without frames of its own, which follows the glance, takes the sizes of the glance.
    """
    buckets: dict[str, tuple[int, ...]] = {}
    for cost in costs:
        if "frames" not in cost.stage.inputs:
            buckets[cost.stage.name] = buckets["glance"]
            continue
        frames = cost.stage.inputs["frames"].shape[0]
        rows = max(_CPU_FRAMES / frames, _CPU_MACS / max(1, cost.macs), 1)
        if platform != "cpu":
            rows = max(_ACCELERATOR_FRAMES / frames, 1)
        step = 2 if cost.stage.rows > 1 else 4
        sizes = [1]
        while sizes[-1] < min(rows, 256):
            sizes.append(sizes[-1] * step)
        buckets[cost.stage.name] = tuple(sizes)
    return buckets

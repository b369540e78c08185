"""How many rows run together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from adafocus_jax.flops import StageCost

Buckets = Mapping[str, Sequence[int]]
"""Name of a stage to the sizes of its compiled programs."""

_FRAMES = {"cpu": 16, "other": 512}
"""Frames that keep a device busy. On a CPU, more of them fall out of its caches: each then takes up to three times as
long in MobileNetV2."""


def default_buckets(costs: Sequence[StageCost], platform: str) -> dict[str, tuple[int, ...]]:
    """Powers of 4 up to what keeps one device of ``platform`` busy; of 2 on a CPU where a row is a patch.

    A stage without frames of its own, which follows the glance, takes the sizes of the glance.
    """
    buckets: dict[str, tuple[int, ...]] = {}
    for cost in costs:
        if "frames" not in cost.stage.inputs:
            buckets[cost.stage.name] = buckets["glance"]
            continue
        frames = cost.stage.inputs["frames"].shape[0]
        largest = min(256, max(1, _FRAMES.get(platform, _FRAMES["other"]) // frames))
        step = 2 if cost.stage.rows > 1 and platform == "cpu" else 4
        smaller = [step**power for power in range(9) if step**power < largest]
        buckets[cost.stage.name] = (*smaller, largest)
    return buckets

"""Memory does not grow with the number of videos."""

import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from adafocus_jax.benchmark.inference import ImposedExits, random_variables
from adafocus_jax.engine import Engine, Request
from adafocus_jax.models import create_model

VIDEOS = 10_000


def resident_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20


@pytest.mark.slow  # half a minute
@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_memory_is_constant_over_ten_thousand_videos():
    sizes = {"num_glance": 4, "num_candidates": 8, "num_focus": 3, "image_size": 32}
    model = create_model("uni_adafocus_tiny", num_classes=3, glance_size=16, patch_size=16, **sizes)
    engine = Engine(
        model, random_variables(model), policy=ImposedExits([0.4, 0.2, 0.2, 0.2]), devices=jax.devices()[:1]
    )
    rng = np.random.default_rng(0)

    def coming():
        for number in range(VIDEOS):
            clip = rng.integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
            yield Request(number, clip[engine.glance_indices], clip)

    used = []
    for number, result in enumerate(engine.run(coming())):
        assert result.error is None
        used += [resident_mib()] if number % 1000 == 999 else []
    assert used[-1] - used[0] < 8  # were the frames kept, it would be 210
    assert engine.stats.videos == VIDEOS

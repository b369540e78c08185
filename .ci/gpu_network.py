"""Videos per second of a model's full forward pass, all exits, random weights: gpu_network.py MODEL BATCH."""

import sys
import time

import jax
import numpy as np

from adafocus_jax.models import create_model, init_variables
from adafocus_jax.types import VideoBatch

name, count, sizes = sys.argv[1], int(sys.argv[2]), {}
if name == "uni_adafocus_tsm":
    sizes = {"patch_size": 96, "num_focus": 8}
for dtype in ("bfloat16", "float32"):
    model = create_model(name, num_classes=174, dtype=dtype, **sizes)
    shape = (model.image_size, model.image_size, 3)
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (count, model.num_candidates, *shape), np.uint8)
    glance = frames[:, : model.num_glance] if model.num_separate_glance else None
    batch = VideoBatch(frames=frames, glance=glance)
    variables, batch = jax.device_put((init_variables(model, jax.random.key(0)), batch))
    run = jax.jit(lambda variables, batch, model=model: model.apply(variables, batch).logits)
    jax.block_until_ready(run(variables, batch))
    times = []
    for _ in range(10):
        begin = time.perf_counter()
        jax.block_until_ready(run(variables, batch))
        times.append(time.perf_counter() - begin)
    print(
        f"jax {jax.__version__} {name} {dtype} batch {count}: {count / np.median(times):.4g} videos/s",
        flush=True,
    )

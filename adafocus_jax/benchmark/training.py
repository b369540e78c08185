"""How soon training starts on this machine, with a cold and a warm compilation cache, and how fast it then is."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import jax
import numpy as np

from adafocus_jax.config import (
    batch_shapes,
    clip_spec,
    for_classes,
    load_config,
    loss_function,
    make_model,
    optimizer_options,
    train_options,
)
from adafocus_jax.config.base import DEFAULT_CLASSES
from adafocus_jax.errors import UserError
from adafocus_jax.io import progress
from adafocus_jax.train.loop import make_step_and_state
from adafocus_jax.train.memory import GIB, check_memory, compile_step, step_memory
from adafocus_jax.train.state import TrainState
from adafocus_jax.train.step import TrainStep, check_batch_size
from adafocus_jax.train.utilization import peak_flops, peak_memory_gib
from adafocus_jax.types import VideoBatch

_CACHE_HIT = "/jax/compilation_cache/cache_hits"


def measure_training(config: str, overrides: Sequence[str] = (), *, steps: int = 10) -> dict[str, Any]:
    """Starts training twice, each time in a new process, the second time with a warm compilation cache; times steps.

    Args:
      config: ``FILE[:VARIANT]``.
      overrides: ``--config.SETTING=VALUE``.
      steps: training steps to time after the first.

    Returns:
      The figures of ``measure_start``, those of the steps from the second start, with ``first_start_sec``,
      ``second_start_sec`` and their ratio ``second_to_first``. ``cache_hits`` counts the programs that the second one
      found in the cache.

    Raises:
      UserError: no such config, or a setting that does not fit.
    """
    if steps < 1:
        raise UserError(f"steps={steps} is not valid: give 1 or more")
    load_config(config, overrides)  # fails early
    with tempfile.TemporaryDirectory(prefix="adafocus-benchmark-") as cache:
        (first, _), (second, figures) = (
            _start(config, overrides, steps, cache, n) for n in ("first", "second")
        )
    return {
        **figures,
        "first_start_sec": first,
        "second_start_sec": second,
        "second_to_first": second / first,
    }


def _start(
    config: str, overrides: Sequence[str], steps: int, cache: str, which: str
) -> tuple[float, dict[str, Any]]:
    """Seconds from the start of a process to the end of its first step, and its figures."""
    began = time.time()
    # A process of its own: this one would hold the devices, and keep what it compiled.
    with progress(f"{which} start", 1, "steps") as advance:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            ready, figures = process.submit(measure_start, config, overrides, steps, cache).result()
        advance(1)
    return ready - began, figures


def measure_start(
    config: str, overrides: Sequence[str], steps: int, cache: str
) -> tuple[float, dict[str, Any]]:
    """Starts training as ``train`` does, then times steps on a synthetic batch. Runs in a process of its own.

    Args:
      config: ``FILE[:VARIANT]``, read here, as it may register models.
      overrides: ``--config.SETTING=VALUE``.
      steps: training steps to time after the first.
      cache: folder of the compilation cache.

    Returns:
      When the first step was done, in seconds of ``time.time``, and the figures. Memory and operations per second are
      those of one device; what is not known about it is left out.
    """
    jax.config.update("jax_compilation_cache_dir", cache)
    hits: list[str] = []
    jax.monitoring.register_event_listener(
        lambda event, **_: hits.append(event) if event == _CACHE_HIT else None
    )
    settings = load_config(config, overrides)
    classes = settings["model"]["num_classes"] or DEFAULT_CLASSES
    settings = for_classes(settings, [f"class {k}" for k in range(classes)])
    model, batch_size = make_model(settings), settings["train"]["batch_size"]
    check_batch_size(batch_size, jax.device_count(), settings["train"]["accumulate"])
    options = train_options(settings, num_examples=batch_size)
    step, create = make_step_and_state(model, options, optimizer_options(settings), loss_function(settings))
    shapes = jax.eval_shape(create), batch_shapes(clip_spec(settings, model), batch_size)
    lowered, device = step.lower(*shapes), jax.devices()[0]
    memory = check_memory(lowered, device)
    ready, sec = _time_steps(step, jax.device_get(create()), _synthetic_batch(shapes[1], classes), steps)
    memory = memory or step_memory(compile_step(lowered))
    figures = {
        "device": device.device_kind,
        "devices": jax.device_count(),
        **{key: settings["model"][key] for key in ("name", "num_classes", "dtype")},
        **{key: settings["train"][key] for key in ("parallel", "batch_size")},
        "cache_hits": len(hits),
        "step_ms": 1000 * sec,
        "videos_per_sec": batch_size / sec,
        "step_memory_gib": memory.total / GIB,
        **peak_memory_gib(),
        "tflops": 2 * step.count_macs(*shapes) / sec / 1e12,
    }
    peak = peak_flops(options.peak_tflops, device.device_kind)
    return ready, figures | ({"flop_utilization": figures["tflops"] * 1e12 / peak} if peak else {})


def _time_steps(
    step: TrainStep, state: TrainState, batch: Mapping[str, np.ndarray], steps: int
) -> tuple[float, float]:
    """When the first step was done (``time.time``), and seconds per step over ``steps`` more."""
    state, placed = step.put_state(state), step.put_batch(batch)
    state, scalars = jax.block_until_ready(step.run(state, placed))
    ready, began = time.time(), time.perf_counter()
    for _ in range(steps):
        state, scalars = step.run(state, placed)
        jax.block_until_ready(scalars)
    return ready, (time.perf_counter() - began) / steps


def _synthetic_batch(shapes: VideoBatch, classes: int) -> dict[str, np.ndarray]:
    """Noise, labelled with every class in turn."""
    rng = np.random.default_rng(0)
    frames = {"frames": shapes.frames, "glance": shapes.glance}
    noise = {name: rng.integers(0, 256, x.shape, np.uint8) for name, x in frames.items() if x is not None}
    return {**noise, "label": np.arange(len(shapes.frames), dtype=np.int32) % classes}

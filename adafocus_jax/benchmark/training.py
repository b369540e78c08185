"""``adafocus benchmark train``: how soon training starts here, for the first and for the second time, and its speed."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from adafocus_jax.cli.cost import DEFAULT_CLASSES
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
from adafocus_jax.errors import UserError
from adafocus_jax.train.loop import make_step_and_state
from adafocus_jax.train.memory import GIB, check_memory, compile_step, step_memory
from adafocus_jax.train.state import TrainState
from adafocus_jax.train.step import TrainStep, check_batch_size
from adafocus_jax.train.utilization import peak_flops, peak_memory_gib
from adafocus_jax.types import VideoBatch

_DESCRIPTION = f"""\
Starts training of a config twice, each time in a new process, and measures the seconds to the end of the first step;
the second start finds the programs that the first one compiled. Then it measures steps on a made batch that lies on the
devices already: what training does at best, which `adafocus benchmark data` says how to feed. Needs no data.

The number of classes is the config's, or {DEFAULT_CLASSES} where that leaves it to the data. Programs are
kept in a folder of its own, which is empty at first."""

_EPILOG = """\
example:
  adafocus benchmark train --config configs/demo.py --steps 20 --config.train.parallel=shard_map"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of this benchmark; ``--config.SETTING=VALUE`` arrive as ``settings``."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    add = parser.add_argument
    add("--config", required=True, metavar="FILE[:VARIANT]", help="as of adafocus train")
    add("--steps", type=int, default=10, metavar="N", help="to measure (default %(default)s)")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measures, prints, and returns the figures: those of ``measure_start``, the steps' from the second start."""
    if args.steps < 1:
        raise UserError(f"--steps {args.steps} is not valid: give 1 or more")
    load_config(args.config, args.settings)  # a mistake shows at once
    with tempfile.TemporaryDirectory(prefix="adafocus-benchmark-") as cache:
        measured = partial(_start, args.config, args.settings, args.steps, cache)
        (first, _), (second, figures) = measured("first"), measured("second")
    starts = {"first_start_sec": first, "second_start_sec": second, "second_to_first": second / first}
    figures = {**figures, **starts}
    _print(figures)
    return figures


def _start(
    file: str, overrides: Sequence[str], steps: int, cache: str, which: str
) -> tuple[float, dict[str, Any]]:
    """Seconds from the start of a process to the end of its first step, and its figures."""
    console = Console(stderr=True)
    with console.status(f"{which} start"):
        began = time.time()
        # Not in this process, which would hold the devices, and keep what it compiled.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            ready, figures = process.submit(measure_start, file, overrides, steps, cache).result()
    console.print(f"{which} start: {ready - began:.1f} s to the end of the first step", highlight=False)
    return ready - began, figures


def measure_start(
    file: str, overrides: Sequence[str], steps: int, cache: str
) -> tuple[float, dict[str, Any]]:
    """What one process does: as ``train`` until the first step is done, then so many steps, with no data to wait for.

    Args:
      file: ``FILE[:VARIANT]``, read here, as it may register models.
      overrides: ``--config.SETTING=VALUE``.
      steps: measured after the first.
      cache: folder for compiled programs.

    Returns:
      When the first step was done, in seconds of ``time.time``, and the figures. Memory and operations per second are
      of one device; what is not known of it is left out.
    """
    jax.config.update("jax_compilation_cache_dir", cache)
    settings = load_config(file, overrides)
    classes = settings["model"]["num_classes"] or DEFAULT_CLASSES
    settings = for_classes(settings, [f"class {k}" for k in range(classes)])
    model, batch_size = make_model(settings), settings["train"]["batch_size"]
    check_batch_size(batch_size, jax.device_count(), settings["train"]["accumulate"])
    options = train_options(settings, num_examples=batch_size)
    step, create = make_step_and_state(model, options, optimizer_options(settings), loss_function(settings))
    shapes = jax.eval_shape(create), batch_shapes(clip_spec(settings, model), batch_size)
    lowered, device = step.lower(*shapes), jax.devices()[0]
    memory = check_memory(lowered, device)
    ready, sec = _time_steps(step, jax.device_get(create()), _made_batch(shapes[1], classes), steps)
    memory = memory or step_memory(compile_step(lowered))
    figures = {
        "device": device.device_kind,
        "devices": jax.device_count(),
        **{key: settings["model"][key] for key in ("name", "num_classes", "dtype")},
        **{key: settings["train"][key] for key in ("parallel", "batch_size")},
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
    """When the first step was done, and the seconds that each of ``steps`` more took."""
    state, placed = step.put_state(state), step.put_batch(batch)
    state, scalars = jax.block_until_ready(step.run(state, placed))
    ready, began = time.time(), time.perf_counter()
    for _ in range(steps):
        state, scalars = step.run(state, placed)
        jax.block_until_ready(scalars)
    return ready, (time.perf_counter() - began) / steps


def _made_batch(shapes: VideoBatch, classes: int) -> dict[str, np.ndarray]:
    """Noise, and every class in turn."""
    rng = np.random.default_rng(0)
    frames = {"frames": shapes.frames, "glance": shapes.glance}
    made = {name: rng.integers(0, 256, x.shape, np.uint8) for name, x in frames.items() if x is not None}
    return {**made, "label": np.arange(len(shapes.frames), dtype=np.int32) % classes}


def _print(figures: dict[str, Any]) -> None:
    title = (
        f"{figures['name']}, {figures['num_classes']} classes, {figures['dtype']}, "
        f"batch {figures['batch_size']}, {figures['parallel']} on {figures['devices']} × {figures['device']}"
    )
    table = Table("training", "", title=title)
    for key, (label, form) in _ROWS.items():
        if key in figures:
            table.add_row(label, form.format(figures[key]))
    Console().print(table)


_ROWS = {
    "first_start_sec": ("first start, to the end of the first step", "{:.1f} s"),
    "second_start_sec": ("second start", "{:.1f} s"),
    "second_to_first": ("  of the first", "{:.0%}"),
    "step_ms": ("step", "{:.1f} ms"),
    "videos_per_sec": ("videos", "{:.1f} /s"),
    "step_memory_gib": ("memory of a step, by the compiler's account", "{:.3f} GiB"),
    "peak_memory_gib": ("peak of memory, as measured", "{:.3f} GiB"),
    "tflops": ("operations of one device", "{:.4g} TFLOP/s"),
    "flop_utilization": ("  of its peak", "{:.1%}"),
}
"""Figure to its label and format; those that are not known are left out."""

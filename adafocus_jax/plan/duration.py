"""How long training takes and what feeds it, from the multiply-adds of the training step and a share of peak."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import jax

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
from adafocus_jax.data.datasets import dataset_spec
from adafocus_jax.errors import UserError
from adafocus_jax.plan.chips import CHIPS
from adafocus_jax.train.loop import make_step_and_state
from adafocus_jax.train.utilization import peak_flops

MACHINES = ("v4-8", "v4-128", "v5e-8", "v5e-16", "v5e-64", "H100x8")
PEAK_SHARES = {"uni_adafocus": 0.1, "uni_adafocus_tsm": 0.08, "uni_adafocus_x3d": 0.01}
"""Model to the assumed share of peak: what the rooflines of the steps give as compiled for slices of four chips.

Depthwise convolutions are bound by memory. On v6e, which has less bandwidth for its FLOPs, it is about half as much.
"""


@dataclass(frozen=True)
class Videos:
    """The training videos of a data set."""

    count: int
    seconds: float
    """On average, about."""


DATA_SETS = {
    "activitynet": Videos(10_024, 117),
    "fcvid": Videos(45_611, 167),
    "mini_kinetics": Videos(121_215, 10),
    "something_v1": Videos(86_017, 4),
    "something_v2": Videos(168_913, 4),
    "jester": Videos(118_562, 3),
    "kinetics400": Videos(240_000, 10),
}
"""Data set to its training split, by the papers that describe them."""


@dataclass(frozen=True)
class Work:
    """What training asks for, whatever it runs on."""

    tflop: float
    """Per training video: forward, backward and what is computed again; a multiply-add is two."""
    videos: float
    """All epochs."""
    frames: int
    """Decoded per clip."""
    stored_frames: float
    """Read per clip: records are read whole."""
    peak_share: float
    """Of the devices; assumed."""


@dataclass(frozen=True)
class Duration:
    """Training on one machine."""

    hours: float
    videos_per_sec: float
    cores: float
    """That decode and cut."""
    mb_per_sec: float
    """Of records."""
    cost: float | None = None


def machine_flops(name: str) -> float:
    """Peak FLOP/s of a slice (``v4-8``, ``v5e-64``) or of GPUs (``H100x8``), in bfloat16.

    >>> machine_flops("v4-8") / 1e12, machine_flops("v5e-8") / 1e12, machine_flops("H100x8") / 1e12
    (1100.0, 1576.0, 7912.0)

    Raises:
      UserError: no such machine.
    """
    if (found := re.fullmatch(r"(v4|v5p|v5e|v6e)-(\d+)", name)) and int(found[2]) > 0:
        cores = 2 if found[1] in ("v4", "v5p") else 1  # the number counts cores in these
        return int(found[2]) / cores * CHIPS[found[1]].peak_flops
    if (found := re.fullmatch(r"([A-Z]+\d+)x([1-9]\d*)", name)) and (
        peak := peak_flops(0, f"NVIDIA {found[1]}")
    ):
        return int(found[2]) * peak
    raise UserError(
        f"unknown machine {name!r}: give a TPU slice such as v4-8 or v5e-64, or GPUs such as H100x8"
    )


def planned_work(
    files: Sequence[str], overrides: Sequence[str] = (), *, peak_share: float | None = None
) -> dict[str, Work]:
    """Data set to what training on it asks for.

    Args:
      files: configs called as their data set, such as ``configs/jester.py:p96,f8``.
      overrides: flags that change them.
      peak_share: assumed for all; None: that of ``PEAK_SHARES``.

    Raises:
      UserError: a data set or a model of which nothing is known.
    """
    works = {}
    for file in files:
        name, settings = Path(file.partition(":")[0]).stem, load_config(file, overrides)
        share = peak_share or PEAK_SHARES.get(settings["model"]["name"])
        if name not in DATA_SETS:
            raise UserError(f"the videos of {name!r} are not known: give configs of {', '.join(DATA_SETS)}")
        if share is None or not 0 < share <= 1:
            raise UserError(f"peak_share={peak_share} is not valid: give more than 0, at most 1")
        works[name] = training_work(settings, DATA_SETS[name], dataset_spec(name).fps, share)
    return works


def training_work(settings: Mapping[str, Any], videos: Videos, fps: float | None, peak_share: float) -> Work:
    """Traces the training step of ``settings`` for one video; ``fps``: at which videos are stored, None: 25."""
    classes = settings["model"]["num_classes"] or DEFAULT_CLASSES
    options = {**settings["train"], "batch_size": 1, "accumulate": 1}
    settings = for_classes({**settings, "train": options}, [f"class {k}" for k in range(classes)])
    model = make_model(settings)
    optimizer = replace(optimizer_options(settings), reference_batch_size=1)
    steps, device = train_options(settings, num_examples=1), jax.devices()[:1]
    step, create = make_step_and_state(model, steps, optimizer, loss_function(settings), device)
    spec = clip_spec(settings, model)
    macs = step.count_macs(jax.eval_shape(create), batch_shapes(spec, 1))
    trained = options["epochs"] * videos.count
    frames = spec.num_candidates + (spec.num_glance or 0)
    return Work(2 * macs / 1e12, trained, frames, videos.seconds * (fps or 25), peak_share)


def duration(
    work: Work,
    machine: str,
    *,
    core_frames: float,
    frame_kb: float,
    price: float | None = None,
) -> Duration:
    """How long ``work`` takes on ``machine``, if the devices reach a share of their peak and never wait.

    Args:
      work: of ``training_work``.
      machine: see ``machine_flops``.
      core_frames: frames per second that one CPU core decodes and cuts.
      frame_kb: of a stored JPEG frame, on average.
      price: per hour, in any currency.
    """
    rate = machine_flops(machine) * work.peak_share / (work.tflop * 1e12)
    hours = work.videos / rate / 3600
    megabytes = rate * work.stored_frames * frame_kb / 1000
    return Duration(hours, rate, rate * work.frames / core_frames, megabytes, price and price * hours)


def duration_rows(
    works: Mapping[str, Work], machines: Sequence[str], prices: Mapping[str, float], **options: float
) -> list[dict[str, Any]]:
    """A row per data set, of what JSON holds; ``options``: of ``duration``."""
    if unknown := sorted(prices.keys() - set(machines)):
        raise UserError(f"there is a price of {unknown[0]}, which is not one of {', '.join(machines)}")
    return [
        {
            "name": name,
            **asdict(work),
            "on": {m: asdict(duration(work, m, price=prices.get(m), **options)) for m in machines},
        }
        for name, work in works.items()
    ]


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as README has them: hours / cores / MB/s, and the cost where there is a price."""
    machines = list(rows[0]["on"])
    lines = [["data set", "TFLOP per video", "share of peak", *machines], ["---"] * (len(machines) + 3)]
    for row in rows:
        cells = [_cell(row["on"][name]) for name in machines]
        lines.append([row["name"], f"{row['tflop']:.3f}", f"{row['peak_share']:g}", *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(found: Mapping[str, Any]) -> str:
    hours, cores, rate = found["hours"], found["cores"], found["mb_per_sec"]
    text = (
        f"{hours:.2g} / {cores:.0f} / {rate:.0f}" if hours < 10 else f"{hours:.0f} / {cores:.0f} / {rate:.0f}"
    )
    return text + (f" / {found['cost']:.0f}" if found["cost"] is not None else "")

"""``adafocus benchmark data``: the throughput of data loading on this machine."""

from __future__ import annotations

import argparse
import math
from typing import Any

from rich.console import Console
from rich.table import Table

from adafocus_jax.benchmark.reading import measure_reading
from adafocus_jax.cli.flags import defaults_of

_DESCRIPTION = """\
Measures how fast augmented training clips are read from records, in threads of one process, against
(a) a plain loop over loose JPEG files with Pillow, as PyTorch code for this method reads, with the same crops,
(b) decoding the mp4 files on the fly, and the bare video decoder, which drops its frames.

Without --data, synthetic videos (340 × 256 pixels) are written to a temporary folder; with it, (b) is left out.
Records stay uint8 up to the accelerator; the usual loaders return normalised float32 tensors, so (a) is given without
and with that. "Per core" is by CPU time, which other jobs on the machine hardly disturb."""

_EPILOG = """\
example:
  adafocus benchmark data --steps-per-sec 4 --batch-size 64"""

_LABELS = {
    "records": "records",
    "pillow": "loose JPEG files, Pillow",
    "tensors": "… to float32, normalised",
    "mp4": "mp4 files",
    "decoder": "mp4 files, bare decoder",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of this benchmark."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    default = defaults_of(measure_reading)
    parser.add_argument("--data", metavar="DIR", help="records to read (default: synthetic videos)")
    for name, text in {
        "videos": "videos to synthesise and to read",
        "length": "frames of a synthetic video",
        "frames": "frames of a clip",
        "size": "side of a clip's frames in pixels",
        "batch_size": "videos per training step of the accelerator to feed",
    }.items():
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(
            flag, type=int, default=default[name], metavar="N", help=f"{text} (default %(default)s)"
        )
    parser.add_argument("--threads", type=int, metavar="N", help="(default: one per core)")
    parser.add_argument(
        "--steps-per-sec",
        type=float,
        default=default["steps_per_sec"],
        metavar="R",
        help="training steps per second of the accelerator to feed (default %(default)s)",
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measures, prints, and returns the figures."""
    figures = measure_reading(**{name: getattr(args, name) for name in defaults_of(measure_reading)})
    table = Table("from", "clips/s", "clips/s per core", "frames/s per core", title="Data loading")
    for name, rate in figures["examples_per_sec"].items():
        per_core = (figures[f"{what}_per_sec_per_core"][name] for what in ("examples", "frames"))
        table.add_row(_LABELS[name], f"{rate:.1f}", *(f"{value:.1f}" for value in per_core))
    console = Console()
    console.print(table)
    for line in _lines(args, figures):
        console.print(line, highlight=False)
    return figures


def _lines(args: argparse.Namespace, figures: dict[str, Any]) -> list[str]:
    shares = ", ".join(f"{name} {share:.0%}" for name, share in figures["share_of_time"].items())
    lines = [
        f"CPU time from records: {shares}",
        f"with {figures['threads']} threads {figures['times_pillow']:.1f} times as fast as the Pillow loop "
        f"({figures['times_pillow_per_core']:.1f} per core), {figures['times_tensors']:.1f} times "
        f"({figures['times_tensors_per_core']:.1f}) with its tensors",
    ]
    if "times_decoder" in figures:
        lines.append(
            f"from mp4 {figures['times_decoder']:.2f} times as fast as the bare decoder "
            f"({figures['times_decoder_per_core']:.2f} per core)"
        )
    if figures["peak_bytes"] is not None:
        clips = figures["peak_bytes"] / figures["batch_bytes"]
        lines.append(f"peak memory {figures['peak_bytes'] / 1e6:.0f} MB, that of {clips:.1f} clips")
    cores = [figures[name] for name in ("cores_needed", "cores_needed_mp4") if name in figures]
    needs = " and ".join(str(math.ceil(value)) for value in cores)
    lines.append(
        f"{args.steps_per_sec:g} steps/s of {args.batch_size} videos need {needs} cores"
        + (" (records and mp4)" if len(cores) == 2 else "")
    )
    return lines

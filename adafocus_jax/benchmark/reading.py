"""``adafocus benchmark data``: what reading costs here, part by part, and what the usual ways cost beside it."""

from __future__ import annotations

import argparse
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import cv2
import matplotlib
import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from adafocus_jax.data.batches.clips import ClipSpec, ClipWriter
from adafocus_jax.data.batches.pipeline import train_batches
from adafocus_jax.data.batches.sampling import segment_indices
from adafocus_jax.data.batches.sources import Source, open_data
from adafocus_jax.data.prepare.prepare import prepare
from adafocus_jax.data.records.reader import RecordSource, open_records
from adafocus_jax.errors import UserError
from adafocus_jax.visualize.files import write_mp4

_HEIGHT, _WIDTH = 256, 340  # pixels of the made videos
_ROUNDS = 3  # of each measurement, in turn; the best counts, as whatever disturbs a machine only slows it

_DESCRIPTION = """\
Measures how fast training clips are read from records, with augmentation, in threads of one process, beside
(a) a straight loop over loose JPEG files with Pillow, as PyTorch code for this method reads, with the same crops,
(b) decoding the mp4 files when they are read, and the bare video decoder, which does nothing with its frames.

Videos of a photograph are made for it (340 × 256 pixels), unless --data names records; then (b) is left out. Records
stay uint8 up to the accelerator; such loops go on to normalised float32 tensors, so (a) is given without and with
that. "Per core" is by time of CPU, which another job on the machine disturbs little."""

_EPILOG = """\
example:
  adafocus benchmark data --steps-per-sec 4 --batch-size 64"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of this benchmark."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    add = parser.add_argument
    add("--data", metavar="DIR", help="records to read (default: made in a temporary folder)")
    add("--videos", type=int, default=32, help="videos to make and to read (default %(default)s)")
    add("--length", type=int, default=96, help="frames of a made video (default %(default)s)")
    add("--frames", type=int, default=48, help="frames of a clip (default %(default)s)")
    add("--size", type=int, default=224, help="side of a clip's frames in pixels (default %(default)s)")
    add("--threads", type=int, default=os.cpu_count() or 1, help="(default: one per core)")
    add("--batch-size", type=int, default=32, help="videos per step of the accelerator (default %(default)s)")
    add("--steps-per-sec", type=float, default=1.0, help="of the accelerator (default %(default)s)")


@dataclass(frozen=True)
class Cost:
    """Seconds for one example, on the clock and of CPU."""

    wall: float
    cpu: float

    @staticmethod
    def of(work: Callable[[], object], examples: int) -> Cost:
        """Runs ``work``, which handles so many examples in this process."""
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        return Cost((time.perf_counter() - wall) / examples, (time.process_time() - cpu) / examples)

    def best(self, other: Cost) -> Cost:
        """The least of both."""
        return Cost(min(self.wall, other.wall), min(self.cpu, other.cpu))


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measures, prints, and returns the figures."""
    for name in ("videos", "length", "frames", "size", "threads", "batch_size", "steps_per_sec"):
        if getattr(args, name) <= 0:
            raise UserError(
                f"--{name.replace('_', '-')} {getattr(args, name)} is not valid: give more than 0"
            )
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory(prefix="adafocus-benchmark-") as folder:
        figures = _measure(args, Path(folder))
    _print(args, figures)
    return figures


def _measure(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    say = Console(stderr=True).print
    files: list[Path] = []
    if not args.data:
        say(f"making {args.videos} videos of {args.length} frames")
        files = _make_videos(folder / "videos", args.videos, args.length)
        prepare(folder / "videos", folder / "records", fps=None, workers=0)
    source = open_records(args.data or folder / "records", "train")
    count, spec = min(args.videos, len(source)), ClipSpec(args.frames, args.size)
    loose = _loose_files(source, count, folder / "frames")
    ways: dict[str, Callable[[], object]] = {
        "records": lambda: _read_all(source, spec, count, args.threads),
        "pillow": lambda: [_pillow_clip(paths, spec, number) for number, paths in enumerate(loose)],
        "tensors": lambda: [_as_floats(_pillow_clip(paths, spec, n)) for n, paths in enumerate(loose)],
    }
    if files:
        videos = open_data(folder / "videos", "train")
        ways["mp4"] = lambda: _read_all(videos, spec, count, args.threads)
        ways["decoder"] = lambda: list(ThreadPoolExecutor(args.threads).map(_decode_only, files))
    costs: dict[str, Cost] = {}
    for number in range(_ROUNDS):
        say(f"measuring, round {number + 1} of {_ROUNDS}")
        for name, work in ways.items():
            cost = Cost.of(work, count)
            costs[name] = cost.best(costs.get(name, cost))
    return _figures(args, costs, _stages(source, spec, count), peak_bytes(ways["records"]))


def _figures(
    args: argparse.Namespace, costs: dict[str, Cost], stages: dict[str, float], peak_bytes: int | None
) -> dict[str, Any]:
    records = costs["records"]
    rest = max(0.0, records.cpu - sum(stages.values()))
    figures: dict[str, Any] = {
        "examples_per_sec": {name: 1 / cost.wall for name, cost in costs.items()},
        "examples_per_sec_per_core": {name: 1 / cost.cpu for name, cost in costs.items()},
        "frames_per_sec_per_core": {name: args.frames / cost.cpu for name, cost in costs.items()},
        "times_pillow": costs["pillow"].wall / records.wall,
        "times_pillow_per_core": costs["pillow"].cpu / records.cpu,
        "times_tensors": costs["tensors"].wall / records.wall,
        "times_tensors_per_core": costs["tensors"].cpu / records.cpu,
        "share_of_time": {name: sec / records.cpu for name, sec in stages.items()}
        | {"batches": rest / records.cpu},
        "peak_bytes": peak_bytes,
        "batch_bytes": args.frames * args.size**2 * 3,
        "cores_needed": args.steps_per_sec * args.batch_size * records.cpu,
    }
    if "mp4" in costs:
        figures["times_decoder"] = costs["decoder"].wall / costs["mp4"].wall
        figures["times_decoder_per_core"] = costs["decoder"].cpu / costs["mp4"].cpu
        figures["cores_needed_mp4"] = args.steps_per_sec * args.batch_size * costs["mp4"].cpu
    return figures


def _make_videos(folder: Path, count: int, length: int) -> list[Path]:
    """Videos of a window that wanders over a photograph: one that every Matplotlib has."""
    with Image.open(Path(matplotlib.get_data_path(), "sample_data", "grace_hopper.jpg")) as file:
        picture = np.asarray(file.convert("RGB"))
    rng = np.random.default_rng(0)
    paths = [folder / "made" / f"{number:03}.mp4" for number in range(count)]
    for path in paths:
        steps = rng.normal(0, 2, (length, 2)).cumsum(axis=0).round().astype(int)
        frames = (np.roll(picture, tuple(step), (0, 1))[:_HEIGHT, :_WIDTH] for step in steps)
        write_mp4(path, frames, 25, crf=23)
    return paths


def _loose_files(source: RecordSource, count: int, folder: Path) -> list[list[str]]:
    """The frames of the first videos as JPEG files, ``img_00001.jpg`` and so on."""
    videos = []
    for index in range(count):
        (folder / str(index)).mkdir(parents=True)
        jpegs = source[index].frames
        paths = [folder / str(index) / f"img_{number + 1:05}.jpg" for number in range(len(jpegs))]
        for path, jpeg in zip(paths, jpegs, strict=True):
            path.write_bytes(jpeg)
        videos.append([str(path) for path in paths])
    return videos


def _read_all(source: Source, spec: ClipSpec, count: int, threads: int) -> None:
    batch_size = max(1, count // (2 * threads))  # two rounds for each thread
    for _ in train_batches(
        source, spec, batch_size=batch_size, seed=0, num_steps=count // batch_size, num_threads=threads
    ):
        pass


def _pillow_clip(paths: Sequence[str], spec: ClipSpec, index: int) -> np.ndarray:
    """One clip, the usual way: open, decode, crop, resize and mirror each frame, then stack them."""
    rng = np.random.default_rng((0, 0, index, 0))  # the frames and the cut that the pipeline draws for it
    images = []
    for number in segment_indices(len(paths), spec.num_candidates, rng):
        with Image.open(paths[number]) as file:
            images.append(file.convert("RGB"))
    width, height = images[0].size
    cut = spec.cut(height, width, rng)
    box = (cut.left, cut.top, cut.left + cut.crop_width, cut.top + cut.crop_height)
    side = (spec.image_size, spec.image_size)
    images = [image.crop(box).resize(side, Image.Resampling.BILINEAR) for image in images]
    if cut.flip:
        images = [image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for image in images]
    return np.stack([np.asarray(image) for image in images])


def _as_floats(clip: np.ndarray) -> np.ndarray:
    """What the usual loaders go on to: ``[N, 3, S, S]`` float32, normalised."""
    floats = clip.transpose(0, 3, 1, 2).astype(np.float32, order="C")
    floats /= 255
    floats -= np.array([[[0.485]], [[0.456]], [[0.406]]], np.float32)
    floats /= np.array([[[0.229]], [[0.224]], [[0.225]]], np.float32)
    return floats


def _decode_only(path: Path) -> None:
    with av.open(str(path)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        for _ in container.decode(video=0):
            pass


def _stages(source: RecordSource, spec: ClipSpec, count: int) -> dict[str, float]:
    """Seconds of CPU that the parts of reading take for one example, in one thread."""
    spent = dict.fromkeys(("read", "decode", "crop_resize_mirror"), 0.0)
    clip = np.zeros((spec.num_candidates, spec.image_size, spec.image_size, 3), np.uint8)
    for index in range(count):
        writer = ClipWriter(spec, [clip], np.random.default_rng(index))
        began = time.thread_time()
        frames = source[index].read(writer.choose, writer.reduce)
        spent["read"] += time.thread_time() - began
        for frame in _timed(frames, spent):
            began = time.thread_time()
            writer.write(frame)
            spent["crop_resize_mirror"] += time.thread_time() - began
    return {name: seconds / count for name, seconds in spent.items()}


def _timed(frames: Iterator[Any], spent: dict[str, float]) -> Iterator[Any]:
    while True:
        began = time.thread_time()
        item = next(frames, None)
        spent["decode"] += time.thread_time() - began
        if item is None:
            return
        yield item


def peak_bytes(work: Callable[[], object]) -> int | None:
    """By how much the process grows at most while it works; None where the system does not tell."""
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
        before = _status_bytes("VmRSS")
        work()
        return _status_bytes("VmHWM") - before
    except OSError:
        return None


def _status_bytes(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


_NAMES = {
    "records": "records",
    "pillow": "loose JPEG files, Pillow",
    "tensors": "… to float32, normalised",
    "mp4": "mp4 files",
    "decoder": "mp4 files, bare decoder",
}


def _print(args: argparse.Namespace, figures: dict[str, Any]) -> None:
    table = Table("from", "clips/s", "clips/s per core", "frames/s per core", title="Reading")
    for name, rate in figures["examples_per_sec"].items():
        per_core = (figures[f"{what}_per_sec_per_core"][name] for what in ("examples", "frames"))
        table.add_row(_NAMES[name], f"{rate:.1f}", *(f"{value:.1f}" for value in per_core))
    say = Console().print
    say(table)
    shares = ", ".join(f"{name} {share:.0%}" for name, share in figures["share_of_time"].items())
    say(f"time of the records' way: {shares}", highlight=False)
    say(
        f"with {args.threads} threads {figures['times_pillow']:.1f} times the straight Pillow loop "
        f"({figures['times_pillow_per_core']:.1f} per core), {figures['times_tensors']:.1f} "
        f"({figures['times_tensors_per_core']:.1f}) with its tensors",
        highlight=False,
    )
    if "times_decoder" in figures:
        say(
            f"from mp4 {figures['times_decoder']:.2f} times the bare decoder "
            f"({figures['times_decoder_per_core']:.2f} per core)",
            highlight=False,
        )
    if figures["peak_bytes"] is not None:
        clips = figures["peak_bytes"] / figures["batch_bytes"]
        say(f"memory at most {figures['peak_bytes'] / 1e6:.0f} MB, {clips:.1f} clips", highlight=False)
    cores = {name: figures[name] for name in ("cores_needed", "cores_needed_mp4") if name in figures}
    needs = " and ".join(str(math.ceil(value)) for value in cores.values())
    say(
        f"{args.steps_per_sec:g} steps/s of {args.batch_size} videos need {needs} cores"
        + (" (records and mp4)" if len(cores) == 2 else ""),
        highlight=False,
    )

"""What reading training clips costs on this machine, stage by stage, beside the usual alternatives."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import cv2
import matplotlib
import numpy as np
from PIL import Image

from adafocus_jax.data.batches.clips import ClipSpec, ClipWriter
from adafocus_jax.data.batches.pipeline import train_batches
from adafocus_jax.data.batches.sampling import segment_indices
from adafocus_jax.data.batches.sources import Source, open_data
from adafocus_jax.data.prepare.prepare import prepare
from adafocus_jax.data.records.reader import RecordSource, open_records
from adafocus_jax.errors import UserError
from adafocus_jax.io import progress
from adafocus_jax.visualize.files import write_mp4

_HEIGHT, _WIDTH = 256, 340  # pixels of the synthetic videos
_ROUNDS = 3  # of each measurement, in turn; the best counts, as whatever disturbs a machine only slows it


@dataclass(frozen=True)
class Cost:
    """Seconds per example: wall clock and CPU time."""

    wall: float
    cpu: float

    @staticmethod
    def of(work: Callable[[], object], examples: int) -> Cost:
        """The cost of ``work``, which handles ``examples`` examples in this process."""
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        return Cost((time.perf_counter() - wall) / examples, (time.process_time() - cpu) / examples)

    def best(self, other: Cost) -> Cost:
        """The smaller of each."""
        return Cost(min(self.wall, other.wall), min(self.cpu, other.cpu))


def measure_reading(
    data: str | Path | None = None,
    *,
    videos: int = 32,
    length: int = 96,
    frames: int = 48,
    size: int = 224,
    threads: int | None = None,
    batch_size: int = 32,
    steps_per_sec: float = 1.0,
) -> dict[str, Any]:
    """Measures how fast training clips are read from records and by the usual alternatives, in threads of this process.

    Three rounds of each in turn; the best counts. The alternatives are a loop over loose JPEG files with Pillow
    (``pillow``), the same up to normalised float32 tensors (``tensors``), clips read from mp4 files (``mp4``) and the
    bare video decoder (``decoder``).

    Args:
      data: folder of records; None: videos are synthesised in a temporary folder. ``mp4`` and ``decoder`` need them.
      videos: how many to synthesise and to read.
      length: frames of a synthetic video.
      frames: frames of a clip.
      size: side of a clip's frames in pixels.
      threads: None: one per core.
      batch_size: videos per step of the accelerator that is to be fed.
      steps_per_sec: steps of that accelerator.

    Returns:
      ``examples_per_sec`` by alternative (wall clock) and ``examples_per_sec_per_core`` (CPU time), ratios ``times_…``
      of the rate from records to those, ``share_of_time`` of the stages, ``peak_bytes`` (None where the system does not
      report it), and ``cores_needed`` to feed the accelerator.

    Raises:
      UserError: an argument that is not positive, or ``data`` holds no records.
    """
    threads = threads if threads is not None else os.cpu_count() or 1
    counts = {"videos": videos, "length": length, "frames": frames, "size": size, "threads": threads}
    for name, value in {**counts, "batch_size": batch_size, "steps_per_sec": steps_per_sec}.items():
        if value <= 0:
            raise UserError(f"{name}={value} is not valid: give more than 0")
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory(prefix="adafocus-benchmark-") as folder:
        files: list[Path] = []
        if data is None:
            files = _write_videos(Path(folder, "videos"), videos, length)
            prepare(Path(folder, "videos"), Path(folder, "records"), fps=None, workers=0)
        source = open_records(data or Path(folder, "records"), "train")
        count, spec = min(videos, len(source)), ClipSpec(frames, size)
        ways = _alternatives(source, files, spec, count, threads, Path(folder))
        costs = _best_costs(ways, count)
        figures = _figures(costs, _stages(source, spec, count), frames)
        figures["peak_bytes"] = peak_bytes(ways["records"])
    figures["threads"] = threads
    figures["batch_bytes"] = frames * size**2 * 3
    figures["cores_needed"] = steps_per_sec * batch_size * costs["records"].cpu
    if files:
        figures["cores_needed_mp4"] = steps_per_sec * batch_size * costs["mp4"].cpu
    return figures


def _alternatives(
    source: RecordSource, files: Sequence[Path], spec: ClipSpec, count: int, threads: int, folder: Path
) -> dict[str, Callable[[], object]]:
    loose = _write_jpegs(source, count, folder / "frames")
    ways: dict[str, Callable[[], object]] = {
        "records": lambda: _read_all(source, spec, count, threads),
        "pillow": lambda: [_pillow_clip(paths, spec, number) for number, paths in enumerate(loose)],
        "tensors": lambda: [_as_floats(_pillow_clip(paths, spec, n)) for n, paths in enumerate(loose)],
    }
    if files:
        videos = open_data(folder / "videos", "train")
        ways["mp4"] = lambda: _read_all(videos, spec, count, threads)
        ways["decoder"] = lambda: list(ThreadPoolExecutor(threads).map(_decode_only, files))
    return ways


def _best_costs(ways: Mapping[str, Callable[[], object]], count: int) -> dict[str, Cost]:
    costs: dict[str, Cost] = {}
    with progress("measuring", _ROUNDS * len(ways), "runs") as advance:
        for _ in range(_ROUNDS):
            for name, work in ways.items():
                cost = Cost.of(work, count)
                costs[name] = cost.best(costs.get(name, cost))
                advance(1)
    return costs


def _figures(costs: Mapping[str, Cost], stages: Mapping[str, float], frames: int) -> dict[str, Any]:
    records = costs["records"]
    rest = max(0.0, records.cpu - sum(stages.values()))
    figures: dict[str, Any] = {
        "examples_per_sec": {name: 1 / cost.wall for name, cost in costs.items()},
        "examples_per_sec_per_core": {name: 1 / cost.cpu for name, cost in costs.items()},
        "frames_per_sec_per_core": {name: frames / cost.cpu for name, cost in costs.items()},
        "times_pillow": costs["pillow"].wall / records.wall,
        "times_pillow_per_core": costs["pillow"].cpu / records.cpu,
        "times_tensors": costs["tensors"].wall / records.wall,
        "times_tensors_per_core": costs["tensors"].cpu / records.cpu,
        "share_of_time": {name: sec / records.cpu for name, sec in {**stages, "batches": rest}.items()},
    }
    if "mp4" in costs:
        figures["times_decoder"] = costs["decoder"].wall / costs["mp4"].wall
        figures["times_decoder_per_core"] = costs["decoder"].cpu / costs["mp4"].cpu
    return figures


def _write_videos(folder: Path, count: int, length: int) -> list[Path]:
    """Videos of a window drifting over a photograph that ships with Matplotlib."""
    with Image.open(Path(matplotlib.get_data_path(), "sample_data", "grace_hopper.jpg")) as file:
        picture = np.asarray(file.convert("RGB"))
    rng = np.random.default_rng(0)
    paths = [folder / "synthetic" / f"{number:03}.mp4" for number in range(count)]
    for path in paths:
        steps = rng.normal(0, 2, (length, 2)).cumsum(axis=0).round().astype(int)
        frames = (np.roll(picture, tuple(step), (0, 1))[:_HEIGHT, :_WIDTH] for step in steps)
        write_mp4(path, frames, 25, crf=23)
    return paths


def _write_jpegs(source: RecordSource, count: int, folder: Path) -> list[list[str]]:
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
    """One clip as PyTorch code usually reads it: open, decode, crop, resize and mirror each frame, then stack."""
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
    """The normalised float32 tensor ``[N, 3, S, S]`` that such loaders return."""
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
    """CPU seconds per example of each stage of reading, in one thread."""
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
    """Peak growth of the resident memory of this process during ``work``; None where the system does not tell."""
    try:
        Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
        before = _status_bytes("VmRSS")
        work()
        return _status_bytes("VmHWM") - before
    except OSError:
        return None


def _status_bytes(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))

"""Made videos in which where and when to look decides: a small striped figure, seen briefly, is the class.

Spawned workers import this module, so it touches neither JAX nor anything that does.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from adafocus_jax.data.media.worker_process import start_worker
from adafocus_jax.errors import UserError
from adafocus_jax.io import progress as progress_bar
from adafocus_jax.io import remove_partials, write_text
from adafocus_jax.visualize.files import write_mp4

SPLITS = ("train", "test")


@dataclass(frozen=True)
class DemoTask:
    """One task as numbers: change a field to get a variant.

    The figure's colour shows at half resolution, its stripes do not: two bright pixels, two dark ones,
    shifted by one against the 2×2 blocks, so that averaging the blocks leaves none of them. The same pattern
    is one basis function of the codec's 4×4 transform, and survives it.
    """

    size_px: int = 96
    """Height and width of a frame; even."""
    num_frames: int = 32
    """Frames per video."""
    fps: int = 8
    figure_frames: int = 8
    """Length of the one span, at a random place, in which the figure is there."""
    empty_frames: int = 3
    """Frames at either end of a video in which it never is. With none, three frames spread uniformly meet the figure in
    76% of the videos, and colour gives half of the rest: no policy can be ahead by more than 12 points. With 3, 68%."""
    radius_px: float = 10.0
    """Radius of the figure and of the decoys, which lie wholly inside the frame."""
    num_decoys: int = 2
    """Grey striped discs in every frame; they carry no class."""
    period_px: float = 4.0
    """Bright and dark stripe together."""
    stripe_contrast: float = 0.42
    """Brightness goes from (1 − contrast) to (1 + contrast) times the colour's."""
    speed_px: float = 2.0
    """Way of a disc from one frame to the next."""
    background_std: float = 0.08
    """Standard deviation of the background; colour values lie in 0…1."""
    drift_px: float = 0.7
    """Most that an octave of the background moves from one frame to the next, on each axis."""
    jitter_std: float = 0.05
    """Of each channel of the figure's colour, from video to video."""
    decoy_jitter_std: float = 0.03
    """Of each channel of a decoy's grey."""
    noise_std: float = 0.03
    """Of each pixel and channel. The codec adds its own."""
    crf: float = 23
    """Quality of the encoding; see ``visualize.files.write_mp4``."""
    colours: tuple[tuple[str, tuple[float, float, float]], ...] = (
        ("blue", (0.05, 0.40, 0.95)),
        ("green", (0.10, 0.78, 0.15)),
        ("purple", (0.78, 0.15, 0.88)),
        ("red", (0.92, 0.12, 0.10)),
        ("yellow", (0.90, 0.80, 0.05)),
    )
    """Names and RGB values in 0…1, names in alphabetical order.

    Far from grey: a glance that learns one of them late may name it by the absence of the others, and its frames are
    never found. None too dark, for the codec keeps stripes in brightness alone.
    """
    directions: tuple[str, str] = ("horizontal", "vertical")
    """Names of the two stripe directions, in alphabetical order. Mirroring keeps both."""

    @property
    def classes(self) -> tuple[str, ...]:
        """K class names in alphabetical order: label 2·colour + direction.

        >>> DemoTask().classes[:3]
        ('blue-horizontal', 'blue-vertical', 'green-horizontal')
        """
        return tuple(f"{colour}-{direction}" for colour, _ in self.colours for direction in self.directions)


@dataclass(frozen=True)
class Video:
    """What makes one video: equal values, equal bytes."""

    task: DemoTask
    seed: int
    split: str
    index: int

    @property
    def label(self) -> int:
        """Classes take turns, so that every split is balanced."""
        return self.index % len(self.task.classes)

    @property
    def name(self) -> str:
        """``<class>/<split>_<index>.mp4``, unique over the splits."""
        return f"{self.task.classes[self.label]}/{self.split}_{self.index:04d}.mp4"


@dataclass(frozen=True)
class Scene:
    """Where things stand; centres are (y, x) in pixels, the frame's edges at 0 and ``size_px``."""

    start: int
    """First frame with the figure."""
    figure: np.ndarray
    """``[figure_frames, 2]`` float64."""
    decoys: np.ndarray
    """``[num_decoys, num_frames, 2]`` float64."""


def write_videos(
    out: str | os.PathLike[str],
    *,
    num_train: int = 700,
    num_test: int = 300,
    seed: int = 0,
    workers: int | None = None,
    progress: bool = True,
    task: DemoTask = DemoTask(),
) -> None:
    """Writes ``out/{train,test}/<class>/<name>.mp4`` and, last, ``out/truth.json``.

    truth.json: ``{"<class>/<name>.mp4": {"label": int, "boxes": [...]}}``, per frame the figure's box
    ``[top, left, height, width]`` in pixels, null where it is not there. A second call with the same
    arguments writes what is missing and touches nothing else. ``workers``: processes, None for one per core,
    1 for this one; with more than one, a script needs ``if __name__ == "__main__":``.

    Raises:
      UserError: too few videos for one per class, or ``out`` holds the videos of other arguments.
    """
    root, counts = Path(out), (num_train, num_test)
    if min(counts) < len(task.classes):
        least = len(task.classes)
        raise UserError(
            f"num_train={num_train}, num_test={num_test}: give each at least {least}, one per class"
        )
    _claim(root, {"num_train": num_train, "num_test": num_test, "seed": seed, "task": asdict(task)})
    videos = [
        Video(task, seed, split, i) for split, count in zip(SPLITS, counts, strict=True) for i in range(count)
    ]
    missing = [video for video in videos if not (root / video.split / video.name).exists()]
    done = _write_all(root, missing, workers or os.cpu_count() or 1)
    with (
        progress_bar("writing synthetic videos", len(missing))
        if progress
        else nullcontext(lambda _: None) as advance
    ):
        for _ in done:
            advance(1)
    truth = {video.name: {"label": video.label, "boxes": figure_boxes(video)} for video in videos}
    write_text(root / "truth.json", json.dumps(truth))


def figure_boxes(video: Video) -> list[list[float] | None]:
    """The figure's box ``[top, left, height, width]`` in each frame (pixels), None where it is not there."""
    task, scene = video.task, draw_scene(video.task, _generator(video))
    boxes: list[list[float] | None] = [None] * task.num_frames
    for t, (y, x) in enumerate(scene.figure.tolist(), scene.start):
        boxes[t] = [y - task.radius_px, x - task.radius_px, 2 * task.radius_px, 2 * task.radius_px]
    return boxes


def draw_scene(task: DemoTask, rng: np.random.Generator) -> Scene:
    """Draws all places and times of one video. The first thing that is drawn from a video's generator."""
    start = int(rng.integers(task.empty_frames, task.num_frames - task.figure_frames - task.empty_frames + 1))
    decoys = [draw_path(task, task.num_frames, rng) for _ in range(task.num_decoys)]
    return Scene(start, draw_path(task, task.figure_frames, rng), np.array(decoys))


def draw_path(task: DemoTask, num_frames: int, rng: np.random.Generator) -> np.ndarray:
    """A smooth random walk of a disc's centre, ``[num_frames, 2]`` pixels, mirrored at the frame's edges."""
    heading = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.25, num_frames))
    room = task.size_px - 2 * task.radius_px
    way = rng.uniform(0, room, 2) + task.speed_px * np.cumsum(
        np.stack([np.sin(heading), np.cos(heading)], axis=1), axis=0
    )
    return task.radius_px + room - np.abs(way % (2 * room) - room)


def render(video: Video) -> np.ndarray:
    """The frames of one video before encoding, RGB ``uint8 [T, size_px, size_px, 3]``."""
    task, rng = video.task, _generator(video)
    scene = draw_scene(task, rng)
    frames = draw_background(task, rng)
    for path in scene.decoys:
        grey = np.full(3, rng.uniform(0.35, 0.65))
        draw_disc(frames, path, _jittered(grey, task.decoy_jitter_std, rng), int(rng.integers(2)), task, rng)
    colour, direction = divmod(video.label, 2)
    rgb = _jittered(np.array(task.colours[colour][1]), task.jitter_std, rng)
    span = slice(scene.start, scene.start + task.figure_frames)
    draw_disc(frames[span], scene.figure, rgb, direction, task, rng)
    frames += np.float32(task.noise_std) * rng.standard_normal(frames.shape, np.float32)
    return cv2.convertScaleAbs(frames.clip(0, 1), alpha=255)  # rounds


def draw_background(task: DemoTask, rng: np.random.Generator) -> np.ndarray:
    """Four octaves of coloured noise, each drifting its own way: float32 ``[T, size_px, size_px, 3]``."""
    size, margin = task.size_px, int(np.ceil(task.drift_px * task.num_frames))
    frames = np.full((task.num_frames, size, size, 3), 0.45, np.float32)
    weights = 0.5 ** np.arange(4)
    for octave, weight in enumerate(task.background_std * weights / np.linalg.norm(weights)):
        cells = round(4 * 2**octave * (size + margin) / size)
        grid = rng.standard_normal((cells, cells, 3), np.float32)
        canvas = cv2.resize(
            np.float32(weight) * grid, (size + margin, size + margin), interpolation=cv2.INTER_CUBIC
        )
        drift = rng.uniform(-task.drift_px, task.drift_px, 2)
        for frame, t in zip(frames, np.arange(task.num_frames) - (task.num_frames - 1) / 2, strict=True):
            centre = (size + margin - 1) / 2 + t * drift
            frame += cv2.getRectSubPix(canvas, (size, size), centre.tolist())
    return frames


def draw_disc(
    frames: np.ndarray,
    path: np.ndarray,
    rgb: np.ndarray,
    direction: int,
    task: DemoTask,
    rng: np.random.Generator,
) -> None:
    """Draws a striped disc into float32 ``frames [t, S, S, 3]`` along ``path [t, 2]``, edges smooth.

    ``direction``: 0 for horizontal stripes, 1 for vertical ones. The stripes stay with the pixel grid.
    """
    at = np.arange(task.size_px, dtype=np.float32) + 0.5
    wave = np.sqrt(2) * np.cos(2 * np.pi * at / task.period_px) * rng.choice([-1, 1])
    stripes = 1 + task.stripe_contrast * (wave[:, None] if direction == 0 else wave[None, :])
    striped = np.broadcast_to(stripes[..., None] * rgb, (task.size_px, task.size_px, 3)).astype(np.float32)
    for frame, (y, x) in zip(frames, path.tolist(), strict=True):
        rows, cols = (slice(max(int(c - task.radius_px) - 1, 0), int(c + task.radius_px) + 2) for c in (y, x))
        distance = np.hypot(at[rows, None] - y, at[None, cols] - x)
        opacity = (task.radius_px + 0.5 - distance).clip(0, 1)[..., None]
        frame[rows, cols] += opacity * (striped[rows, cols] - frame[rows, cols])


def _jittered(rgb: np.ndarray, std: float, rng: np.random.Generator) -> np.ndarray:
    return (rgb + rng.normal(0, std, 3)).clip(0.05, 0.95)


def _generator(video: Video) -> np.random.Generator:
    return np.random.default_rng([video.seed, SPLITS.index(video.split), video.index])


def _claim(root: Path, arguments: dict[str, object]) -> None:
    """Marks ``root`` as the place of these videos, so that two tasks never mix in one folder."""
    marker, text = root / "task.json", json.dumps(arguments, indent=2)
    if marker.exists() and marker.read_text() != text:
        raise UserError(
            f"{root} holds synthetic videos of other arguments (see {marker}): give another folder"
        )
    write_text(marker, text)


def _write_all(root: Path, videos: list[Video], workers: int) -> Iterator[None]:
    if workers == 1 or len(videos) < 2:
        yield from map(partial(_write_one, root), videos)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=start_worker) as pool:
        yield from pool.map(partial(_write_one, root), videos, chunksize=4)


def _write_one(root: Path, video: Video) -> None:
    path = root / video.split / video.name
    remove_partials(path)  # of a run that was killed
    write_mp4(path, render(video), video.task.fps, crf=video.task.crf)

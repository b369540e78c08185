"""Samples of a data set as pictures: videos as stored, and training clips as they are augmented."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from adafocus_jax.data.batches.clips import ClipSpec
from adafocus_jax.data.batches.pipeline import train_batches
from adafocus_jax.data.batches.sources import Source, VideoData
from adafocus_jax.visualize.files import write_png
from adafocus_jax.visualize.strips import Strip, draw_strips

_FRAMES_PER_STRIP = 8


def draw_samples(
    source: Source,
    folder: str | Path,
    *,
    videos: int = 8,
    clips: int = 0,
    spec: ClipSpec | None = None,
    seed: int = 0,
) -> list[str]:
    """Draws ``contact_sheet.png`` of stored videos and ``clips.png`` of training clips into ``folder``.

    Args:
      source: the split to draw from.
      folder: made if it does not exist.
      videos: how many, evenly spaced over the split; 0: no contact sheet.
      clips: how many training clips; 0: no picture of clips.
      spec: how clips are cut; None: 48 frames of 224 px.
      seed: of the order and the augmentation of the clips.

    Returns:
      The paths of the pictures.
    """
    drawn = {
        "contact_sheet": _stored_videos(source, videos),
        "clips": _training_clips(source, clips, spec or ClipSpec(num_candidates=48, image_size=224), seed),
    }
    paths = []
    for name, strips in drawn.items():
        if strips:
            paths.append(str(Path(folder) / f"{name}.png"))
            write_png(paths[-1], draw_strips(strips))
    return paths


def _stored_videos(source: Source, count: int) -> list[Strip]:
    strips = []
    for index in np.unique(np.linspace(0, len(source) - 1, count).round()).astype(int):
        video = source[index]
        frames, num_frames = _read_evenly(video)
        strips.append(Strip(f"{_caption(source, video)}, {num_frames} frames", frames))
    return strips


def _read_evenly(video: VideoData) -> tuple[list[np.ndarray], int]:
    total = 0

    def choose(num_frames: int) -> list[int]:
        nonlocal total
        total = num_frames
        return _evenly_spaced(num_frames).tolist()

    return [frame.pixels.copy() for frame in video.read(choose)], total


def _training_clips(source: Source, count: int, spec: ClipSpec, seed: int) -> list[Strip]:
    if not count:
        return []
    (batch,) = train_batches(source, spec, batch_size=count, seed=seed, num_steps=1)
    return [
        Strip(_caption(source, source[index]), clip[_evenly_spaced(len(clip))])
        for index, clip in zip(batch["index"], batch["frames"], strict=True)
    ]


def _caption(source: Source, video: VideoData) -> str:
    return f"{', '.join(source.classes[label] for label in video.labels)}: {video.name}"


def _evenly_spaced(count: int) -> np.ndarray:
    return np.linspace(0, count - 1, min(count, _FRAMES_PER_STRIP)).round().astype(int)

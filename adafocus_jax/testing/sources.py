"""The check of a source of videos."""

from __future__ import annotations

import pickle
from typing import Any

import chex
import numpy as np

from adafocus_jax.data.batches.sources import Source
from adafocus_jax.testing.rules import assert_equal, rule


def check_source(source: Source, num_videos: int = 3) -> None:
    """Checks a source by all rules that the pipeline relies on.

    The rules: names and numbers of classes; labels within them; frames ``[H, W, 3]`` uint8 that are the same each time;
    chosen frames, in order, are those of the whole video; reduced frames have ``⌈side / factor⌉`` pixels a side; a
    position outside raises IndexError; the pickled source, as data workers get it, reads the same.

    Args:
      source: with at least one video.
      num_videos: how many to read, from both ends.

    Raises:
      RuleBrokenError: names the rule, and the shapes.
    """
    part = f"source {type(source).__name__}"
    with rule(part, "has videos, names of classes and a greatest number of labels"):
        assert len(source) > 0, "it is empty"
        assert all(isinstance(name, str) for name in source.classes), f"classes {source.classes}"
        assert len(set(source.classes)) == len(source.classes) > 0, f"classes {source.classes}"
        assert source.max_labels >= 1, f"max_labels {source.max_labels}"
    for outside in (len(source), -1):
        with rule(part, "raises IndexError outside 0…len − 1"):
            try:
                source[outside]
            except IndexError:
                continue
            raise AssertionError(f"source[{outside}] of {len(source)} videos gives one")
    workers = pickle.loads(pickle.dumps(source))
    count = len(source)
    for number in sorted({*range(min(num_videos, count)), count - 1}):
        _check_video(f"{part}, video {number},", source, workers, number)


def _check_video(part: str, source: Source, workers: Source, number: int) -> None:
    video = source[number]
    with rule(part, "has a name and labels within the classes"):
        assert video.name, "it has no name"
        assert 1 <= len(video.labels) <= source.max_labels, f"{len(video.labels)} labels"
        assert all(0 <= label < len(source.classes) for label in video.labels), f"labels {video.labels}"
    with rule(part, "reads frames [H, W, 3] uint8"):
        frames = _read(video)
        assert frames, "it has no frame"
        chex.assert_shape(frames, (None, None, 3))
        chex.assert_type(frames, np.uint8)
        chex.assert_equal_shape(frames)
    with rule(part, "reads the same each time, also pickled", frames=frames[0]):
        assert_equal(_read(source[number]), frames)
        assert_equal(_read(workers[number]), frames)
    with rule(part, "reads chosen frames in order", frames=frames[0]):
        chosen = sorted({0, len(frames) // 2, len(frames) - 1})
        assert_equal(_read(video, choose=lambda count: chosen), [frames[t] for t in chosen])
    with rule(part, "reduces frames to ⌈side / factor⌉ pixels", frames=frames[0]):
        (small,) = _read(video, choose=lambda count: [0], reduce=lambda height, width: 2)
        height, width, _ = frames[0].shape
        chex.assert_shape(small, (-(-height // 2), -(-width // 2), 3))
        chex.assert_type(small, np.uint8)


def _read(video: Any, choose: Any = range, **reduce: Any) -> list[np.ndarray]:
    return [np.array(frame.pixels) for frame in video.read(choose, **reduce)]  # the next may overwrite it

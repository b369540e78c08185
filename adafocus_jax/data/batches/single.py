"""The test clip of one video: the one that ``eval_batches`` makes of it, whole or decoded as it is asked for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from adafocus_jax.data.batches.clips import ClipSpec, ClipWriter
from adafocus_jax.data.batches.sampling import segment_indices
from adafocus_jax.data.batches.sources import ArrayVideo, Video, VideoData
from adafocus_jax.data.datasets.annotations import Entry
from adafocus_jax.data.datasets.entries import ReadOptions
from adafocus_jax.data.records.reader import Record
from adafocus_jax.errors import UserError


class Clip(NamedTuple):
    """A clip as the model sees it."""

    frames: np.ndarray
    """``[N, S, S, 3]`` uint8: the candidates."""
    times_sec: np.ndarray
    """``[N]`` float: where the candidates stand in the video, in seconds."""
    frame_numbers: np.ndarray
    """``[N]`` int64: which frames of the video the candidates are, from 0."""
    glance: np.ndarray | None
    """``[G, S, S, 3]`` uint8, if the spec asks for glance frames apart from the candidates."""


def as_video(
    video: str | Path | Entry | np.ndarray | VideoData, *, name: str = "", options: ReadOptions | None = None
) -> VideoData:
    """What can be read of a video, whatever it is given as.

    Args:
      video: the path of a video file, a folder of frames or a volume; an entry; a ``uint8 [T, H, W, 3]`` RGB array; or
        a ``VideoData``, which is returned.
      name: what reports call it; empty: the path.
      options: for folders of frames and volumes; None: the defaults.

    Raises:
      UserError: there is no such path, or the array has another shape or dtype.

    >>> as_video(np.zeros((5, 8, 8, 3), np.uint8), name="black").name
    'black'
    """
    if isinstance(video, np.ndarray):
        return ArrayVideo(video, name=name)
    if isinstance(video, str | os.PathLike):
        path = os.fspath(video)
        if not os.path.exists(path):
            raise UserError(f"no such video: {path}; give a video file, a folder of frames or a NIfTI volume")
        video = Entry(path, (), name or path)
    return Video(video, options or ReadOptions()) if isinstance(video, Entry) else video


def read_clip(video: VideoData, spec: ClipSpec) -> Clip:
    """The test clip of a video, bit for bit the row that ``eval_batches`` makes of it.

    Raises:
      RecordError: it does not read.
    """
    return LazyClip(video, spec).clip()


class LazyClip:
    """The test clip of a video, of which frames are decoded as they are asked for: the pixels of ``read_clip``.

    Of records, folders of frames and arrays, only these are decoded. A video file is decoded in one pass when this is
    made, its candidates become RGB when they are asked for (``Video.hold``). What was cut is kept: ``S² · 3`` bytes for
    each frame. For one thread at a time.

    Raises:
      RecordError: the video does not read, here or when frames are asked for.
    """

    def __init__(self, video: VideoData, spec: ClipSpec) -> None:
        self._spec, self._cut, self._times_sec = spec, dict[int, np.ndarray](), dict[int, float]()
        self._video = video
        if isinstance(video, Video):
            self._video = held = video.hold(self._choose_all)
            self._times_sec = {number: frame.time_sec for number, frame in held.frames.items()}
        else:
            for _ in video.read(self._choose_none):
                pass
        if isinstance(video, Record | ArrayVideo):
            self._times_sec = dict(enumerate(video.times_sec.tolist()))

    def _choose_all(self, num_frames: int) -> list[int]:
        """Settles which frames of the video are candidates, and which are glance frames."""
        spec = self._spec
        self.frame_numbers = segment_indices(num_frames, spec.num_candidates)
        """``[N]`` int64: which frames of the video the candidates are."""
        count = spec.num_glance
        self._glance_numbers = np.empty(0, np.int64) if count is None else segment_indices(num_frames, count)
        return sorted({*self.frame_numbers.tolist(), *self._glance_numbers.tolist()})

    def _choose_none(self, num_frames: int) -> list[int]:
        self._choose_all(num_frames)
        return []

    @property
    def times_sec(self) -> np.ndarray:
        """``[N]`` float: where the candidates stand in the video, in seconds. Decodes nothing of a kind of ours."""
        if not self._times_sec.keys() >= set(numbers := self.frame_numbers.tolist()):
            self._decode(self.frame_numbers)
        return np.array([self._times_sec[number] for number in numbers])

    def glance(self) -> np.ndarray:
        """``[G, S, S, 3]`` uint8: the glance frames, where the spec asks for them apart from the candidates.

        Raises:
          UserError: it does not.
        """
        if self._spec.num_glance is None:
            raise UserError("num_glance is None: the model takes its glance frames from the candidates")
        return self._frames(self._glance_numbers)

    def candidates(self, positions: Sequence[int] | np.ndarray) -> np.ndarray:
        """``[n, S, S, 3]`` uint8: the candidates at n ``positions`` in 0…N−1, in any order, perhaps repeated."""
        return self._frames(self.frame_numbers[np.asarray(positions, np.int64)])

    def clip(self) -> Clip:
        """All of it."""
        apart = self._spec.num_glance is not None
        self._decode(np.concatenate([self.frame_numbers, self._glance_numbers]))
        return Clip(
            self._frames(self.frame_numbers),
            self.times_sec,
            self.frame_numbers,
            self._frames(self._glance_numbers) if apart else None,
        )

    def _frames(self, numbers: np.ndarray) -> np.ndarray:
        self._decode(numbers)
        side = self._spec.image_size
        frames = np.empty((len(numbers), side, side, 3), np.uint8)
        for frame, number in zip(frames, numbers.tolist(), strict=True):
            frame[...] = self._cut[number]
        return frames

    def _decode(self, numbers: np.ndarray) -> None:
        """Decodes and cuts those of the video's frames that were not yet."""
        wanted = sorted(set(numbers.tolist()) - self._cut.keys())
        if not wanted:
            return
        side = self._spec.image_size
        cut = np.empty((len(wanted), side, side, 3), np.uint8)
        writer = ClipWriter(self._spec, [cut], None)
        writer.places = {number: [out] for number, out in zip(wanted, cut, strict=True)}
        for frame in self._video.read(lambda _: wanted, writer.reduce):
            writer.write(frame)
            self._cut[frame.number] = cut[wanted.index(frame.number)]
            self._times_sec[frame.number] = frame.time_sec

"""Pictures of predicted videos: files for people, and images for the log of a training run."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from adafocus_jax.data.batches.clips import ClipSpec
from adafocus_jax.data.batches.sources import Source
from adafocus_jax.data.datasets.annotations import Entry
from adafocus_jax.data.datasets.entries import ReadOptions, iter_entry
from adafocus_jax.data.media.kinds import media_stem
from adafocus_jax.data.media.names import output_stem
from adafocus_jax.evaluate.predict import Predictions
from adafocus_jax.predict.videos import source_predictions
from adafocus_jax.types import VideoPrediction
from adafocus_jax.visualize.curves import class_scores, temporal_weights
from adafocus_jax.visualize.files import write_png
from adafocus_jax.visualize.frames import contact_sheet
from adafocus_jax.visualize.overlay import write_overlay
from adafocus_jax.visualize.timeline import timeline


class PictureFolder:
    """Writes pictures of predictions into one folder: a set of files for each, also where videos have the same name.

    Use it in a ``with`` block: the windows of a long video become one picture, once the last of them is there.
    """

    def __init__(
        self, folder: str | os.PathLike[str], spec: ClipSpec, options: ReadOptions | None = None
    ) -> None:
        """``spec``: how the clips were cut. ``options``: how folders of frames and volumes were read."""
        self._folder, self._spec, self._options = Path(folder), spec, options or ReadOptions()
        self._taken: set[str] = set()
        self._windows: list[VideoPrediction] = []

    def __enter__(self) -> PictureFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self._write_timeline()

    def write(self, prediction: VideoPrediction, *, overlay: bool = False) -> list[str]:
        """Writes ``NAME-frames.png``, ``NAME-weights.png`` (where the temporal policy ran) and ``NAME-exits.png``.

        Of windows, which come one after the other, ``NAME-timeline.png`` instead, later.

        Args:
          prediction: with its ``frames``.
          overlay: also write ``NAME-overlay.mp4``; the prediction's name is then the path of its video.

        Returns:
          The paths of what was written.
        """
        if self._windows and prediction.name != self._windows[0].name:
            self._write_timeline()
        if prediction.segment_sec is not None:
            self._windows.append(prediction)
            return []
        stem = self._new_stem(prediction.name)
        pictures = {"frames": contact_sheet, "weights": temporal_weights, "exits": class_scores}
        if not len(prediction.frame_weights):
            del pictures["weights"]
        written = []
        for kind, draw in pictures.items():
            written.append(str(self._folder / f"{stem}-{kind}.png"))
            write_png(written[-1], draw(prediction))
        if overlay:
            written.append(str(self._folder / f"{stem}-overlay.mp4"))
            entry = Entry(prediction.name, (), prediction.name)
            video = iter_entry(entry, short_side=None, max_fps=None, options=self._options)
            sizes = {"short_side": self._spec.short_side, "image_size": self._spec.image_size}
            write_overlay(written[-1], video, prediction, **sizes)
        return written

    def _write_timeline(self) -> None:
        if any(one.error is None for one in self._windows):
            stem = self._new_stem(self._windows[0].name)
            write_png(self._folder / f"{stem}-timeline.png", timeline(self._windows))
        self._windows = []

    def _new_stem(self, name: str) -> str:
        """A name for files, not given out before (in any case: some file systems ignore it)."""
        stem, number = output_stem(media_stem(name)), 1
        while (new := stem if number == 1 else f"{stem}-{number}").casefold() in self._taken:
            number += 1
        self._taken.add(new.casefold())
        return new


def evaluation_pictures(
    source: Source, spec: ClipSpec, predictions: Predictions, count: int
) -> dict[str, np.ndarray]:
    """Draws the ``count`` first videos, the same at every evaluation, from what it predicted anyway.

    Args:
      source: the videos that were predicted.
      spec: how their clips are cut.
      predictions: of these videos.
      count: how many; 0: none.

    Returns:
      RGB ``uint8 [H, 960, 3]`` by name: ``VIDEO/frames`` (chosen frames, boxes, patches), ``VIDEO/weights``.

    Raises:
      RecordError: a video does not read.
    """
    # Neither picture shows a cost, which would take seconds to count.
    unknown = np.full(predictions.exit_logits.shape[1], np.nan)
    videos = source_predictions(source, spec, source.classes, predictions, unknown, count=count)
    draw = {"frames": contact_sheet, "weights": temporal_weights}
    return {f"{video.name}/{kind}": picture(video) for video in videos for kind, picture in draw.items()}

"""``Predictor``: a checkpoint, videos in, predictions out."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np

from adafocus_jax.data.batches.clips import ClipSpec
from adafocus_jax.data.batches.sampling import segment_indices
from adafocus_jax.data.batches.single import Clip, LazyClip, as_video
from adafocus_jax.data.batches.sources import VideoData
from adafocus_jax.data.datasets.annotations import Entry
from adafocus_jax.data.datasets.entries import ReadOptions
from adafocus_jax.early_exit import ExitPolicy
from adafocus_jax.engine import AUTO, Engine, ExitRule, Request, Result, default_buckets
from adafocus_jax.errors import UserError
from adafocus_jax.flops import model_cost, stage_costs
from adafocus_jax.models import AdaFocus, VideoModel
from adafocus_jax.predict.exit_policy import find_policy
from adafocus_jax.predict.loading import load_model
from adafocus_jax.predict.stream import StreamReader
from adafocus_jax.predict.videos import focus_frames_seen
from adafocus_jax.predict.windows import BrokenVideo, Window, check_window, windows_of
from adafocus_jax.types import VideoPrediction

VideoInput = str | os.PathLike[str] | np.ndarray | Entry | VideoData
"""A path of a video file, folder of frames or NIfTI volume; ``uint8 [T, H, W, 3]`` RGB; or an entry or a record."""


class Predictor:
    """Classifies videos with a trained model, and says what it looked at.

    Example:
      predictor = Predictor.load("runs/mine", budget=0.5)
      for p in predictor(["clip.mp4", "frames/", array]):
          print(p.name, p.error or p.top(5), p.exit, p.gflops, p.frame_indices, p.times_sec, p.boxes)
    """

    def __init__(
        self,
        model: VideoModel,
        variables: Any,
        classes: Sequence[str],
        *,
        spec: ClipSpec | None = None,
        policy: ExitPolicy | None = None,
        options: ReadOptions | None = None,
        max_in_flight: int = 64,
        num_threads: int | None = None,
        backend: str = AUTO,
        precision: str = "float32",
        every_exit: bool = True,
    ) -> None:
        """``Predictor.load`` makes one of a checkpoint.

        Args:
          model: of ``create_model``.
          variables: ``{"params", "batch_stats"}``.
          classes: K class names.
          spec: how clips are cut; None: as the model's sizes ask for.
          policy: where videos leave; None: all run to the last exit.
          options: of folders of frames and volumes; None: the defaults of ``adafocus prepare``.
          max_in_flight: videos that are read, waiting or predicted at a time; what bounds memory.
          num_threads: threads that decode; None: one per CPU.
          backend: ``xla``, ``openvino``, or ``auto``: OpenVINO on a CPU where it is installed, else XLA.
          precision: ``float32``, or ``bfloat16`` with OpenVINO, which may change predictions (``adafocus evaluate
            --precision bfloat16`` says how many).
          every_exit: whether predictions hold the logits of every exit, which pictures need; see ``Engine``.
        """
        if len(classes) != model.num_classes:
            raise UserError(
                f"classes has {len(classes)} names, and the model tells {model.num_classes} classes apart"
            )
        self.model, self.classes = model, tuple(classes)
        self.spec, self.options = spec or eval_spec(model), options or ReadOptions()
        self.exit_gflops = model_cost(model).exit_gflops
        """``[E]`` cost of leaving at each exit, in giga multiply-adds."""
        self.engine = Engine(
            model,
            variables,
            policy=policy,
            buckets=_buckets(model, max_in_flight),
            max_in_flight=max_in_flight,
            pixel_threads=num_threads or os.cpu_count() or 1,
            backend=backend,
            precision=precision,
            every_exit=every_exit,
        )
        self._window = 2 * max_in_flight

    @classmethod
    def load(
        cls,
        directory: str | os.PathLike[str],
        *,
        which: str = "best",
        budget: float | str | None = None,
        exit_share: float | None = None,
        criterion: str = "confidence",
        **settings: Any,
    ) -> Predictor:
        """Reads a checkpoint and the exit thresholds that ``adafocus evaluate --early-exit`` has stored beside it.

        Args:
          directory: a workdir of ``adafocus train`` or ``adafocus convert``, or a folder of checkpoints.
          which: ``best`` (in evaluation) or ``latest``.
          budget: what a video may cost on average: a share of the full cost in (0, 1], or giga multiply-adds (a number
            above 1, or text such as ``"9.5G"``). None: no early exit; predictions are then those of
            ``adafocus evaluate``.
          exit_share: the ``q`` of the exit thresholds, in place of a budget.
          criterion: by which videos leave early; one for which thresholds are stored.
          **settings: ``options``, ``max_in_flight``, ``num_threads``, ``backend``, ``precision``, ``every_exit`` of the
            constructor.

        Raises:
          UserError: no checkpoint, or no stored thresholds that serve the budget.
        """
        trained = load_model(directory, which)
        policy = find_policy(
            trained.folder,
            float(trained.exit_gflops[-1]),
            budget=budget,
            exit_share=exit_share,
            criterion=criterion,
        )
        variables = trained.checkpoint.variables
        return cls(trained.model, variables, trained.classes, spec=trained.spec, policy=policy, **settings)

    @property
    def policy(self) -> ExitPolicy | ExitRule | None:
        """Where videos leave; setting it between calls costs nothing."""
        return self.engine.policy

    @policy.setter
    def policy(self, policy: ExitPolicy | ExitRule | None) -> None:
        self.engine.policy = policy
        self.engine.reset_stats()

    def __call__(
        self,
        videos: VideoInput | Iterable[VideoInput],
        *,
        keep_frames: bool = False,
        max_in_flight: int | None = None,
    ) -> Generator[VideoPrediction, None, None]:
        """Predicts videos; yields in their order, as soon as each is done and those before it are.

        Memory does not grow with the number of videos: at most ``2 * max_in_flight`` are taken from ``videos`` ahead of
        the prediction that is yielded. They are decoded in threads beside the devices.

        Args:
          videos: one video or any number, of any kind and mixed: a list, a generator, standard input. It is iterated
            over in another thread.
          keep_frames: whether predictions carry ``frames``, which pictures need.
          max_in_flight: fewer than the predictor's own.

        Yields:
          A prediction for every video. One that does not read has an ``error``, and the others are not affected.
        """
        jobs: dict[int, _Job] = {}
        room, closed = threading.Semaphore(self._window), False

        def requests() -> Iterator[Request]:
            for number, video in enumerate(_as_iterable(videos)):
                room.acquire()
                if closed:
                    return
                jobs[number] = _Job(self, number, video, keep_frames)
                yield jobs[number].request()

        finished: dict[Any, Result] = {}
        following = 0
        try:
            # Closed by name: a reader who stops early stops the engine, whoever else still refers to it.
            with contextlib.closing(
                cast(Generator[Result, None, None], self.engine.run(requests(), max_in_flight=max_in_flight))
            ) as results:
                for result in results:
                    finished[result.key] = result
                    while following in finished:
                        yield jobs.pop(following).prediction(finished.pop(following))
                        room.release()
                        following += 1
        finally:
            closed = True
            room.release()

    def windows(
        self, videos: VideoInput | Iterable[VideoInput], window_sec: float, stride_sec: float | None = None
    ) -> Iterator[VideoPrediction]:
        """Predicts stretches of long videos, in order: what happens when.

        Windows are ``[k · stride_sec, k · stride_sec + window_sec)``, up to the first that reaches the end; their clips
        are cut as those of whole videos. Every video is decoded once, and memory is that of one window and of
        ``2 * max_in_flight`` clips. Windows share decoded frames but no features: few of their glance frames are the
        same, and the encoders of TSM and X3D see all of them at once.

        Args:
          videos: as for a call.
          window_sec: how long a window is.
          stride_sec: from the start of one to the start of the next; None: ``window_sec``.

        Yields:
          A prediction for every window, with its ``segment_sec``; frame numbers and times are those of the video. Of a
          video that breaks off, the last has an ``error``.
        """
        stride = window_sec if stride_sec is None else stride_sec
        check_window(window_sec, stride)
        return self(self._iter_windows(_as_iterable(videos), window_sec, stride))

    def stream(
        self,
        address: str,
        window_sec: float,
        stride_sec: float | None = None,
        *,
        stall_sec: float = 10.0,
        give_up_sec: float = 300.0,
    ) -> Iterator[VideoPrediction]:
        """Predicts a live stream, always the latest stretch of it: what is not predicted in time is dropped.

        Args:
          address: ``rtsp://…``, ``http(s)://…``, ``udp://…``, or a device such as ``/dev/video0``.
          window_sec: how long a stretch is.
          stride_sec: from the end of one to the end of the next; None: ``window_sec``.
          stall_sec: without data for so long, the stream is opened again, as when it breaks off.
          give_up_sec: without a frame for so long, this ends.

        Yields:
          Predictions with their ``segment_sec`` in the stream's own time, and in ``extra`` the number of windows
          ``dropped`` so far. Endless; close the iterator to stop.

        Raises:
          UserError: the stream has had no frame for ``give_up_sec``.
        """
        stride, waits = stride_sec or window_sec, {"stall_sec": stall_sec, "give_up_sec": give_up_sec}
        with (
            StreamReader(address, self.spec, window_sec, stride, **waits) as reader,
            contextlib.closing(self(reader, max_in_flight=1)) as predictions,
        ):
            for prediction in predictions:
                prediction.extra["dropped"] = reader.dropped
                yield prediction

    def _iter_windows(
        self, videos: Iterable[VideoInput], window_sec: float, stride_sec: float
    ) -> Iterator[VideoData]:
        for number, given in enumerate(videos):
            name = _name_of(given, number)
            try:
                video = self._open(given, name)
            except UserError as error:
                yield BrokenVideo(name, error)
            else:
                yield from windows_of(video, self.spec, window_sec, stride_sec)

    def _open(self, video: VideoInput, name: str) -> VideoData:
        source = Path(video) if isinstance(video, os.PathLike) else video
        return as_video(source, name=name, options=self.options)


def _buckets(model: VideoModel, max_in_flight: int) -> dict[str, tuple[int, ...]]:
    """The engine's own sizes, but none that ``max_in_flight`` videos cannot fill: each takes time to compile."""
    costs = stage_costs(model)
    sizes = default_buckets(costs, jax.devices()[0].platform)
    most = {cost.stage.name: max_in_flight * max(cost.stage.rows, 1) for cost in costs}
    return {name: tuple(size for size in of_stage if size <= most[name]) for name, of_stage in sizes.items()}


def eval_spec(model: VideoModel) -> ClipSpec:
    """How test clips are cut for a model, by its sizes alone."""
    return ClipSpec(model.num_candidates, model.image_size, num_glance=model.num_separate_glance)


def _as_iterable(videos: VideoInput | Iterable[VideoInput]) -> Iterable[VideoInput]:
    single = isinstance(videos, (str, os.PathLike, Entry)) or hasattr(videos, "read")
    if isinstance(videos, np.ndarray):
        single = videos.ndim <= 4
    return [videos] if single else videos  # type: ignore[list-item, return-value]


class _Job:
    """A video from the moment it is asked for to its prediction."""

    def __init__(self, predictor: Predictor, number: int, video: VideoInput, keep_frames: bool) -> None:
        self._predictor, self._number, self._video, self._keep = predictor, number, video, keep_frames
        self._name = _name_of(video, number)
        self._lazy: LazyClip | None = None
        self._clip: Clip | None = None
        self._candidates = np.zeros(0, int), np.zeros(0)
        self._start = time.perf_counter()

    def request(self) -> Request:
        """What the engine asks for the pixels."""
        plain = not isinstance(self._predictor.model, AdaFocus)
        return Request(self._number, self._glance, None if plain else self._focus, self._close)

    def _glance(self) -> np.ndarray:
        """Opens the video, and decodes what the glance sees of it."""
        spec, seen = self._predictor.spec, self._predictor.engine.glance_indices
        video = self._predictor._open(self._video, self._name)
        self._lazy = LazyClip(video, spec)
        numbers = self._lazy.frame_numbers
        if isinstance(video, Window):
            numbers = np.array([video.frames[place].number for place in numbers.tolist()])
        self._candidates = numbers, self._lazy.times_sec
        if self._keep:
            self._clip = self._lazy.clip()
        if spec.num_glance:
            return self._lazy.glance()
        return self._lazy.candidates(np.arange(spec.num_candidates) if seen is None else seen)

    def _focus(self, indices: np.ndarray) -> np.ndarray:
        assert self._lazy is not None
        return self._lazy.candidates(indices)

    def _close(self) -> None:
        self._lazy = None

    def prediction(self, result: Result) -> VideoPrediction:
        """What the engine found, with what is known of the video."""
        predictor, segment = self._predictor, None
        if isinstance(self._video, Window):
            segment = (self._video.start_sec, self._video.end_sec)
        if result.error is not None or result.logits is None:
            error = in_words(result.error)
            return VideoPrediction(self._name, predictor.classes, segment_sec=segment, error=error)
        numbers, times_sec = self._candidates
        return VideoPrediction(
            self._name,
            predictor.classes,
            exit=result.exit,
            exit_logits=result.logits,
            exit_gflops=predictor.exit_gflops,
            candidate_numbers=numbers,
            candidate_times_sec=times_sec,
            frames=self._clip.frames if self._clip is not None else None,
            segment_sec=segment,
            seconds=time.perf_counter() - self._start,
            **self._looked_at(result),
        )

    def _looked_at(self, result: Result) -> dict[str, Any]:
        """Where it was glanced at and focused on before it left; a plain classifier sees all frames whole."""
        model, glanced = self._predictor.model, self._predictor.engine.glance_indices
        if not isinstance(model, AdaFocus):
            frames = np.arange(model.num_candidates)
            whole = np.array([0, 0, model.image_size, model.image_size], np.float32)
            return {
                "frame_weights": np.full(len(frames), 1 / len(frames), np.float32),
                "glance_indices": frames,
                "frame_indices": frames,
                "boxes": np.tile(whole, (len(frames), 1)),
            }
        if glanced is None:  # Sampled separately: the candidates nearest in time.
            glanced = segment_indices(model.num_candidates, model.num_glance)
        if result.frame_indices is None or result.boxes is None or result.frame_weights is None:
            return {"glance_indices": glanced}
        seen = focus_frames_seen(result.exit, len(self._predictor.exit_gflops), model.num_focus)
        return {
            "frame_weights": result.frame_weights,
            "glance_indices": glanced,
            "frame_indices": result.frame_indices[:seen],
            "boxes": result.boxes[:seen],
        }


def _name_of(video: VideoInput, number: int) -> str:
    if isinstance(video, str | os.PathLike):
        return str(os.fspath(video))
    return f"video {number}" if isinstance(video, np.ndarray) else str(getattr(video, "name", video))


def in_words(error: Exception | None) -> str:
    """An error in one line: its message where it was written for users, else with its kind."""
    return str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"

"""Live streams: read in a thread, of which the latest stretch is held and whatever nobody waits for is dropped."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import av

from adafocus_jax.data.batches.clips import ClipSpec
from adafocus_jax.data.batches.sources import SHORT_SIDE
from adafocus_jax.data.media.container import pixel_aspect
from adafocus_jax.data.media.formats import CODECS, FORMATS
from adafocus_jax.data.media.frames import DecodeError, Frame
from adafocus_jax.data.media.limits import ReadLimits
from adafocus_jax.data.media.picture import rgb_converter
from adafocus_jax.errors import UserError
from adafocus_jax.predict.windows import Window, check_window, make_window

log = logging.getLogger(__name__)

_LIVE_FORMATS = ("rtsp", "rtp", "sdp", "hls", "mpjpeg", "mjpeg", "v4l2", "video4linux2,v4l2")
_PROTOCOLS = (
    "http",
    "https",
    "tcp",
    "tls",
    "udp",
    "rtp",
    "rtsp",
    "srtp",
    "rtmp",
    "crypto",
    "data",
    "httpproxy",
)
_FRAMES_PER_CANDIDATE = 8
_WAITS_SEC = (0.5, 30.0)


class StreamReader:
    """Yields windows of a live stream as they end; use it in a ``with`` block, which stops its thread.

    Memory is bounded: of the window under way at most eight frames per candidate are held, spread evenly; of finished
    windows only the latest waits, and one that was not taken in time is dropped and counted.

    A stream that breaks off or stalls is opened again, with pauses from half a second to half a minute in between.
    Windows never span such a gap. Times are the stream's own stamps.
    """

    def __init__(
        self,
        address: str,
        spec: ClipSpec,
        window_sec: float,
        stride_sec: float,
        *,
        stall_sec: float = 10.0,
        give_up_sec: float = 300.0,
    ) -> None:
        """Opens nothing yet.

        Args:
          address: ``rtsp://…``, ``http(s)://…``, ``udp://…``, or a device such as ``/dev/video0``.
          spec: how clips are cut.
          window_sec: how long a window is.
          stride_sec: from the end of one to the end of the next.
          stall_sec: without data for so long, the stream is opened again.
          give_up_sec: without a frame for so long, reading ends with an error.
        """
        check_window(window_sec, stride_sec)
        if Path(address).is_file():
            raise UserError(f"address={address} is a file, no live stream: predict it as a video")
        self._address, self._spec = address, spec
        self._window_sec, self._stride_sec = window_sec, stride_sec
        self._stall_sec, self._give_up_sec = stall_sec, give_up_sec
        self._changed = threading.Condition()
        self._latest: Window | None = None
        self._error: Exception | None = None
        self._stopped = threading.Event()
        self._last_frame = time.monotonic()
        self.dropped = 0
        """Windows that ended and were not taken before the next one ended."""
        self.connections = 0
        """How often the stream was opened."""
        self._thread = threading.Thread(target=self._run, name="adafocus-stream", daemon=True)

    def __enter__(self) -> StreamReader:
        self._last_frame = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._stopped.set()
            self._changed.notify_all()
        self._thread.join(timeout=1.0)  # A read that stalls ends by itself, later.

    def __iter__(self) -> Iterator[Window]:
        """The latest finished window, each once, until the reader is stopped.

        Raises:
          UserError: there was no frame for ``give_up_sec``.
        """
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._latest or self._error or self._stopped.is_set())
                window, self._latest = self._latest, None
                if window is None:
                    if self._error is not None:
                        raise self._error
                    return
            yield window

    def _run(self) -> None:
        wait = _WAITS_SEC[0]
        while not self._stopped.is_set():
            before = self._last_frame
            try:
                self._read()
                reason = "it ended"
            except (av.error.FFmpegError, OSError, DecodeError, IndexError) as error:
                reason = getattr(error, "strerror", None) or str(error)
            if self._stopped.is_set():
                return
            silent = time.monotonic() - self._last_frame
            if silent > self._give_up_sec:
                self._end(
                    UserError(f"{self._address} has had no frame for {silent:.0f} s ({reason}): is it on?")
                )
                return
            wait = _WAITS_SEC[0] if self._last_frame > before else min(2 * wait, _WAITS_SEC[1])
            log.warning("%s: %s; opening it again in %.1f s", self._address, reason, wait)
            self._stopped.wait(wait)

    def _end(self, error: Exception) -> None:
        with self._changed:
            self._error = error
            self._changed.notify_all()

    def _read(self) -> None:
        """Reads one connection to its end."""
        held, step = list[Frame](), 1
        most = _FRAMES_PER_CANDIDATE * self._spec.num_candidates
        due = None
        with _open_stream(self._address, self._stall_sec) as container:
            self.connections += 1
            stream = container.streams.video[0]
            convert = rgb_converter(SHORT_SIDE, pixel_aspect(stream), ReadLimits())
            for number, frame in enumerate(container.decode(stream)):
                if self._stopped.is_set():
                    return
                self._last_frame = time.monotonic()
                if frame.is_corrupt or frame.time is None:
                    continue
                if held and frame.time < held[-1].time_sec:  # The stream's clock was set back.
                    held, due = [], None
                due = frame.time + self._window_sec if due is None else due
                while frame.time >= due:
                    start = due - self._window_sec
                    self._finish([one for one in held if one.time_sec >= start], start)
                    due += self._stride_sec
                held = [one for one in held if one.time_sec >= due - self._window_sec]
                if number % step == 0 and frame.time >= due - self._window_sec:
                    held.append(Frame(number, frame.time, convert(frame)))
                if len(held) > most:
                    held, step = held[::2], 2 * step

    def _finish(self, frames: list[Frame], start_sec: float) -> None:
        if not frames:
            return
        window = make_window(self._address, frames, self._spec, start_sec, self._window_sec)
        with self._changed:
            self.dropped += self._latest is not None
            self._latest = window
            self._changed.notify_all()


def _open_stream(address: str, stall_sec: float) -> av.container.InputContainer:
    """Opens an address, or a device; never another file, which a playlist may name."""
    is_device = Path(address).is_char_device()
    options = {"codec_whitelist": ",".join(CODECS), "format_whitelist": ",".join((*FORMATS, *_LIVE_FORMATS))}
    if not is_device:
        # FFmpeg would look at five seconds of a stream before it shows the first frame.
        options |= {"protocol_whitelist": ",".join(_PROTOCOLS), "analyzeduration": "500000"}
    if address.lower().startswith("rtsp"):
        options["rtsp_transport"] = "tcp"
    return av.open(
        address,
        format="v4l2" if is_device else None,
        options=options,
        timeout=stall_sec,
        metadata_errors="ignore",
    )

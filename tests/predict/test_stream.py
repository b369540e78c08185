"""Live streams, from a local server that stalls, breaks off and comes back."""

import http.server
import io
import threading
import time
from fractions import Fraction

import av
import numpy as np
import pytest

from adafocus_jax.data.batches.clips import ClipSpec
from adafocus_jax.errors import UserError
from adafocus_jax.predict.predictor import Predictor
from adafocus_jax.predict.stream import StreamReader

SPEC = ClipSpec(num_candidates=4, image_size=16, resize=16)


def transport_stream(first_sec: float, num_frames: int, fps: int = 10) -> bytes:
    """MPEG-TS whose stamps begin at ``first_sec``; the pictures get brighter."""
    out = io.BytesIO()
    with av.open(out, "w", format="mpegts", options={"mpegts_copyts": "1"}) as container:
        stream = container.add_stream("mpeg2video", rate=fps)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, fps)
        for number in range(num_frames):
            frame = av.VideoFrame.from_ndarray(
                np.full((64, 64, 3), 5 * number % 256, np.uint8), format="rgb24"
            )
            frame.pts, frame.time_base = round(first_sec * fps) + number, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return out.getvalue()


@pytest.fixture
def server():
    """Serves ``parts``, one a connection; the last but one stalls after its bytes."""
    parts: list[bytes] = []
    done = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            part = parts.pop(0) if parts else b""
            self.send_response(200 if part else 503)
            self.end_headers()
            self.wfile.write(part)
            self.wfile.flush()
            if part and len(parts) == 1:
                done.wait(20)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        listening.daemon_threads = True
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_address[1]}/live.ts", parts
        done.set()
        listening.shutdown()


def recording(reader: StreamReader) -> list:
    """What the reader finishes, taken or not: end and frames of each window."""
    finished, finish = [], reader._finish

    def record(frames, start_sec):
        finished.append((start_sec + reader._window_sec, frames))
        finish(frames, start_sec)

    reader._finish = record
    return finished


def test_a_stream_that_breaks_off_and_stalls_goes_on(server, monkeypatch):
    """Windows end every second of the stream's own time; none spans a gap."""
    monkeypatch.setattr("adafocus_jax.predict.stream._WAITS_SEC", (0.05, 0.2))
    address, parts = server
    parts += [transport_stream(50, 35), transport_stream(70, 25), transport_stream(3, 25)]
    reader = StreamReader(address, SPEC, 1.0, 1.0, stall_sec=1.0)
    finished = recording(reader)
    with reader:
        for window in reader:
            assert len(window.frames) <= SPEC.num_candidates
            if window.start_sec < 10:
                break
    ends = [end for end, _ in finished]
    np.testing.assert_allclose(ends[:5], [51, 52, 53, 71, 72])
    assert ends[5] == pytest.approx(4)
    assert reader.connections == 3
    for end, frames in finished:
        assert len(frames) == 10
        assert all(end - 1 <= frame.time_sec < end for frame in frames)


def test_what_nobody_takes_is_dropped_and_memory_is_bounded(server):
    address, parts = server
    parts += [transport_stream(0, 300, fps=50), b""]
    reader = StreamReader(address, SPEC, 2.0, 0.5, stall_sec=5.0)
    finished = recording(reader)
    with reader:
        deadline = time.monotonic() + 20
        while reader.dropped < 6 and time.monotonic() < deadline:
            time.sleep(0.02)
        latest = next(iter(reader))
    assert reader.dropped >= 6
    assert latest.start_sec >= 3.0, "the latest one, not the first"
    assert (
        max(len(frames) for _, frames in finished) <= 8 * SPEC.num_candidates < 100
    )  # frames of 2 s at 50 fps
    for end, frames in finished:
        times = np.array([frame.time_sec for frame in frames])
        assert np.diff(times).max() < 0.2, "spread evenly"
        assert end - 2 <= times[0] < end - 1.7


def test_a_stream_that_never_comes_ends_with_an_error(monkeypatch, tmp_path):
    monkeypatch.setattr("adafocus_jax.predict.stream._WAITS_SEC", (0.02, 0.1))
    with StreamReader("http://127.0.0.1:9/none", SPEC, 1.0, 1.0, give_up_sec=0.2) as reader:  # noqa: SIM117
        with pytest.raises(UserError, match=r"http://127\.0\.0\.1:9/none has had no frame for 0 s"):
            next(iter(reader))
    (tmp_path / "clip.mp4").write_bytes(b"x")
    with pytest.raises(UserError, match=r"is a file, no live stream"):
        StreamReader(str(tmp_path / "clip.mp4"), SPEC, 1.0, 1.0)


def test_a_stream_is_predicted(server, run):
    address, parts = server
    parts += [transport_stream(10, 25), b""]
    predictions = Predictor.load(run).stream(address, 1.0, stall_sec=2.0)
    first = next(predictions)
    start, end = first.segment_sec
    assert end - start == pytest.approx(1)
    assert first.error is None
    assert ((first.times_sec >= start) & (first.times_sec < end)).all()
    assert first.extra["dropped"] >= 0
    predictions.close()
    for thread in threading.enumerate():
        if thread.name == "adafocus-stream":
            thread.join(timeout=10)  # it may wait for data, but no longer than stall_sec
            assert not thread.is_alive()

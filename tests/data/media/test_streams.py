"""What else is in a file, and how its packets lie: neither changes the frames or their seconds."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from adafocus_jax.data.media.frames import DecodeError
from adafocus_jax.data.media.limits import ReadLimits
from adafocus_jax.data.media.probe import probe_video
from adafocus_jax.data.media.video import iter_frames, read_chosen

NUM_FRAMES = 25
CODECS = {".mp4": ("libx264", "aac"), ".mkv": ("libx264", "aac"), ".ts": ("mpeg2video", "mp2"), ".flv": ("flv", "aac"),
          ".avi": ("mpeg4", "ac3"), ".wmv": ("wmv2", "wmav2")}  # fmt: skip


def write_with_sound(path: Path, film, seconds: float) -> Path:
    """One second of video, and sound of ``seconds``."""
    video, audio = CODECS[path.suffix]
    with av.open(str(path), "w") as container:
        pictures = container.add_stream(video, rate=25)
        pictures.width, pictures.height, pictures.pix_fmt = film.WIDTH, film.HEIGHT, "yuv420p"
        sound = container.add_stream(audio, rate=44100, layout="mono")
        if audio == "wmav2":
            sound.bit_rate = 64000
        for number in range(NUM_FRAMES):
            frame = av.VideoFrame.from_ndarray(film.picture(number), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(pictures.encode(frame))
        container.mux(pictures.encode(None))
        samples = np.zeros((1, round(seconds * 44100)), np.int16)
        silence = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        silence.sample_rate, silence.pts, silence.time_base = 44100, 0, Fraction(1, 44100)
        resampler = av.AudioResampler(sound.format, "mono", 44100, frame_size=sound.frame_size or 1024)
        for part in [*resampler.resample(silence), *resampler.resample(None), None]:
            container.mux(sound.encode(part))
    return path


@pytest.mark.parametrize("suffix", CODECS)
def test_sound_may_last_longer(tmp_path, film, suffix):
    path = write_with_sound(tmp_path / f"film{suffix}", film, 4.0)
    times, frames = zip(*iter_frames(path), strict=True)
    assert film.numbers(frames) == list(range(NUM_FRAMES))
    np.testing.assert_allclose(
        times[5:], np.arange(5, NUM_FRAMES) / 25, atol=0.041
    )  # AVI may leave one out early
    probe_video(path, None, ReadLimits())


@pytest.mark.parametrize("suffix", [".mkv", ".flv"])
def test_a_file_that_ends_early_is_truncated(tmp_path, film, suffix):
    """The containers that state one length for all of their streams."""
    path = write_with_sound(tmp_path / f"film{suffix}", film, 1.0)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 4 // 10])
    for read in (lambda: list(iter_frames(path)), lambda: probe_video(path, None, ReadLimits())):
        with pytest.raises(DecodeError, match=r"truncated|breaks off|not a readable|holds no"):
            read()


def packed(source: Path, path: Path) -> Path:
    """The same AVI with packed B-frames, as DivX writes them: a chunk holds two frames, and the next one none."""

    def kind(chunk: bytes) -> int:
        return chunk[chunk.index(b"\0\0\1\xb6") + 4] >> 6

    with av.open(str(source)) as container:
        stream = container.streams.video[0]
        chunks = [bytes(packet) for packet in container.demux(stream) if packet.size]
        at = chunks[0].index(b"\0\0\1\xb6")
        chunks[0] = chunks[0][:at] + b"\0\0\1\xb2DivX503b1393p" + chunks[0][at:]
        out: list[bytes] = []
        for chunk in chunks:
            if kind(chunk) == 2:
                out[-1] += chunk
                out.append(b"\0\0\1\xb6\x51\0\x7f")
            else:
                out.append(chunk)
        with av.open(str(path), "w") as target:
            copy = target.add_stream_from_template(stream)
            for number, chunk in enumerate(out):
                packet = av.Packet(chunk)
                packet.stream, packet.time_base, packet.is_keyframe = copy, Fraction(1, 25), number == 0
                packet.pts = packet.dts = number
                target.mux(packet)
    return path


def test_packed_b_frames(tmp_path, film):
    times = [number / 25 for number in range(13)]
    plain = film.write(tmp_path / "plain.avi", times, 0.04, codec="mpeg4", bf="1")
    for path in (plain, packed(plain, tmp_path / "packed.avi")):
        found, frames = zip(*iter_frames(path), strict=True)
        assert film.numbers(frames) == list(range(13))
        np.testing.assert_allclose(found, times, atol=2e-3)
        chosen = read_chosen(path, lambda total: [0, 5, total - 1])
        assert film.numbers(chosen.frames) == [0, 5, 12]
        np.testing.assert_allclose(chosen.times_sec, np.array([0, 5, 12]) / 25, atol=2e-3)

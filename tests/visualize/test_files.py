"""PNG and mp4: what is written reads back, and nothing half-written ever has the final name."""

from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from adafocus_jax.visualize import files


def read_mp4(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        return np.stack(frames), stream.average_rate, stream.codec_context.name


def test_png_reads_back_exactly(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    files.write_png(tmp_path / "new" / "a.png", image)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "new" / "a.png"))[..., ::-1], image)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.png"]


@pytest.mark.parametrize("codec", ["h264", "mpeg4"])
def test_mp4_keeps_colours_count_and_rate(tmp_path, monkeypatch, codec):
    if codec == "mpeg4":
        monkeypatch.setattr(files.av, "codecs_available", {"mpeg4"})
    colours = np.array([[220, 30, 40], [30, 180, 60], [40, 60, 210], [128, 128, 128]], np.uint8)
    frames = np.repeat(np.repeat(colours[:, None, None], 32, 1), 48, 2)
    files.write_mp4(tmp_path / "a.mp4", frames, 30000 / 1001)
    back, rate, name = read_mp4(tmp_path / "a.mp4")
    assert back.shape == frames.shape
    assert (rate, name) == (Fraction(30000, 1001), codec)
    assert np.abs(back.astype(int) - frames).max() <= 4


def test_equal_frames_give_equal_bytes(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
    for name in ("a.mp4", "b.mp4"):
        files.write_mp4(tmp_path / name, iter(frames), 8)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"old")

    def frames():
        yield np.zeros((32, 32, 3), np.uint8)
        raise RuntimeError("the drawing failed")

    with pytest.raises(RuntimeError, match="the drawing failed"):
        files.write_mp4(path, frames(), 8)
    assert path.read_bytes() == b"old"

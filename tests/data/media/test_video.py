import os
from pathlib import Path

import av
import numpy as np
import pytest

from adafocus_jax.data.batches.sampling import segment_indices
from adafocus_jax.data.media.video import DecodeError, iter_frames, read_chosen, read_video, stack_frames


def levels(frames) -> list[int]:
    """Which frames these are: frame i is written with level 10 + 8 i."""
    return [round((float(np.mean(frame)) - 10) / 8) for frame in frames]


@pytest.mark.parametrize(
    ("codec", "suffix"), [("libx264", ".mp4"), ("mpeg4", ".avi"), ("libvpx-vp9", ".webm"), ("mpeg4", ".mkv")]
)
def test_every_frame_in_order(tmp_path, write_video, codec, suffix):
    video = read_video(write_video(tmp_path / f"v{suffix}", 20, codec=codec))
    assert video.frames.shape == (20, 24, 32, 3)
    assert video.frames.dtype == np.uint8
    assert levels(video.frames) == list(range(20))
    assert video.fps == pytest.approx(12, rel=0.01)


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(24, 32, (12, 16)), (32, 24, (16, 12)), (33, 65, (12, 24)), (47, 21, (27, 12)), (2, 2, (12, 12))],
)
def test_short_side_of_landscape_portrait_odd_and_tiny(tmp_path, write_video, height, width, expected):
    path = write_video(tmp_path / "v.mp4", 3, height, width, codec="mpeg4")
    assert read_video(path, short_side=12).frames.shape == (3, *expected, 3)
    assert read_video(path).frames.shape == (3, height, width, 3)


@pytest.mark.parametrize(
    ("fps", "max_fps", "expected"),
    [
        (30, 10, [0, 3, 6, 9, 12, 15, 18, 21, 24, 27]),
        (30, 30, list(range(30))),
        (30, 12, [0, 3, 5, 8, 10, 13, 15, 18, 20, 23, 25, 28]),
        (30, 60, list(range(30))),
        (10, 4, [0, 3, 5, 8, 10, 13, 15, 18, 20, 23, 25, 28]),
    ],
)
@pytest.mark.parametrize("suffix", [".mp4", ".webm"])  # WebM has whole milliseconds: 33, 67, 100 …
def test_frames_are_dropped_by_time(tmp_path, write_video, suffix, fps, max_fps, expected):
    codec = "libx264" if suffix == ".mp4" else "libvpx-vp9"
    video = read_video(write_video(tmp_path / f"v{suffix}", 30, fps=fps, codec=codec), max_fps=max_fps)
    assert levels(video.frames) == expected
    assert video.fps == pytest.approx((len(expected) - 1) / (expected[-1] / fps), rel=1e-3)


def test_frame_i_stands_at_its_time(tmp_path, write_video):
    times = [time for time, _ in iter_frames(write_video(tmp_path / "v.mp4", 6, fps=12))]
    np.testing.assert_allclose(times, np.arange(6) / 12, atol=1e-4)


def test_rotation_is_honoured(rotated_video):
    frame = read_video(rotated_video).frames[0]
    assert frame.shape == (32, 24, 3)
    red = frame[..., 0].astype(int) - frame[..., 1] > 100
    # The red corner was at the top left; a quarter turn clockwise puts it at the top right.
    assert red[2:14, 14:22].all()
    assert not red[18:].any()
    assert not red[:, :10].any()


def test_one_frame_counts_as_one_second(tmp_path, write_video):
    video = read_video(write_video(tmp_path / "v.mp4", 1))
    assert (video.frames.shape[0], video.fps) == (1, 1.0)


def broken(tmp_path: Path, write_video, kind: str) -> Path:
    path = tmp_path / "bad.mp4"
    whole = write_video(tmp_path / "good.mp4", 200).read_bytes()
    front = write_video(tmp_path / "front.mp4", 200, movflags="faststart").read_bytes()
    contents = {
        "empty": b"",
        "text": b"this is not a video\n" * 50,
        "cut": whole[: len(whole) // 2],
        "cut, index in front": front[: len(front) * 6 // 10],
        "playlist": b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/x.ts\n",
    }
    if kind == "folder":
        path.mkdir()
    elif kind == "sound alone":
        write_sound(path)
    elif kind in contents:
        path.write_bytes(contents[kind])
    return path


def write_sound(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


REASONS = {
    "empty": "empty file",
    "text": "not a readable video: Invalid data",
    "cut": "not a readable video: Invalid data",
    "cut, index in front": "breaks off after|truncated",
    "playlist": "not a readable video",
    "sound alone": "no video stream",
    "folder": "not a readable video: Is a directory",
    "missing": "not a readable video: No such file",
}


@pytest.mark.parametrize("kind", REASONS)
def test_what_does_not_decode_says_why(tmp_path, write_video, kind):
    path = broken(tmp_path, write_video, kind)
    with pytest.raises(DecodeError, match=REASONS[kind]):
        read_video(path)
    with pytest.raises(DecodeError, match=REASONS[kind].replace("after|truncated", "")):
        read_chosen(path, lambda total: segment_indices(total, 4))


def test_a_stream_that_ends_early_is_truncated(tmp_path, write_video):
    """Cut between two packets, a file decodes without an error, but not to its stated end."""
    path = write_video(tmp_path / "v.mp4", 24, movflags="faststart", codec="mpeg4")
    with av.open(str(path)) as container:
        kept = [packet for packet in container.demux() if packet.size][11]
    path.write_bytes(path.read_bytes()[: kept.pos + kept.size])
    with pytest.raises(DecodeError, match=r"truncated: frames end after 1.0 of 2.0 s"):
        read_video(path)


@pytest.mark.parametrize(("num_frames", "num_segments"), [(20, 4), (3, 8), (1, 5), (30, 30)])
def test_chosen_frames_are_those_of_the_whole_video(tmp_path, write_video, num_frames, num_segments):
    path = write_video(tmp_path / "v.mp4", num_frames)
    expected = segment_indices(num_frames, num_segments)
    chosen = read_chosen(path, lambda total: segment_indices(total, num_segments), short_side=12)
    whole = read_video(path, short_side=12)
    np.testing.assert_array_equal(np.stack(chosen.frames), whole.frames[expected])
    np.testing.assert_allclose(chosen.times_sec, expected / 12, atol=1e-4)


def test_choosing_survives_packets_that_show_no_frame(tmp_path, write_video, monkeypatch):
    path = write_video(tmp_path / "v.mp4", 10)
    monkeypatch.setattr("adafocus_jax.data.media.video._count_packets", lambda *_: 14)
    assert levels(read_chosen(path, lambda total: segment_indices(total, 5)).frames) == [1, 3, 5, 7, 9]


def test_nothing_is_left_open(tmp_path, write_video):
    path = write_video(tmp_path / "v.mp4", 10)
    before = len(os.listdir("/proc/self/fd"))
    frames = iter_frames(path)
    next(frames)
    frames.close()
    for kind in ("cut", "sound alone"):
        with pytest.raises(DecodeError):
            read_video(broken(tmp_path / kind, write_video, kind))
    assert len(os.listdir("/proc/self/fd")) == before


def read_part(path, segment, **options):
    return stack_frames(iter_frames(path, segment=segment, **options))


@pytest.fixture(scope="session")
def long_videos(tmp_path_factory, write_video):
    """30 frames at 10 per second, with a key frame every 8 where the codec has them."""
    root = tmp_path_factory.mktemp("long")
    codecs = {".mp4": "libx264", ".webm": "libvpx-vp9", ".ts": "libx264", ".avi": "mpeg4"}
    return [
        write_video(root / f"v{suffix}", 30, fps=10, codec=codec, gop=8) for suffix, codec in codecs.items()
    ]


@pytest.mark.parametrize("kind", range(4), ids=["mp4", "webm", "ts", "avi"])
@pytest.mark.parametrize(
    ("segment", "first", "last"),
    [
        ((0.0, 0.5), 0, 4),
        ((1.0, 2.0), 10, 19),
        ((1.55, 1.75), 16, 17),
        ((2.5, 3.1), 25, 29),
        ((0.0, 3.0), 0, 29),
    ],
)
def test_a_segment_has_its_own_frames(long_videos, kind, segment, first, last):
    video = read_part(long_videos[kind], segment)
    assert levels(video.frames) == list(range(first, last + 1))
    assert video.fps == pytest.approx(10, rel=0.02)


def test_a_segment_is_thinned_from_its_start(long_videos):
    assert levels(read_part(long_videos[0], (1.1, 2.1), max_fps=5).frames) == [11, 13, 15, 17, 19]


@pytest.mark.parametrize(
    "segment", [(3.0, 4.0), (50.0, 60.0), (2.5, 4.5), (2.0, 2.0), (2.5, 1.0), (1.01, 1.05)]
)
@pytest.mark.parametrize("kind", [0, 2], ids=["mp4", "ts"])
def test_a_segment_that_is_not_there(long_videos, kind, segment):
    with pytest.raises(
        DecodeError, match=rf"segment {segment[0]:.2f}–{segment[1]:.2f} s is not there: frames"
    ):
        read_part(long_videos[kind], segment)


def test_decoding_starts_at_a_key_frame_and_stops_at_the_end(tmp_path, long_videos):
    """What lies before the key frame and behind the end may be damaged: it is not decoded."""
    damaged = bytearray(long_videos[0].read_bytes())
    with av.open(str(long_videos[0])) as container:
        for packet in container.demux(video=0):
            at = float((packet.pts or 0) * packet.time_base)
            if packet.size and not (at < 0.65 or 1.35 < at < 2.75):
                damaged[packet.pos + 5 : packet.pos + packet.size] = bytes(packet.size - 5)
    path = tmp_path / "v.mp4"
    path.write_bytes(damaged)
    assert levels(read_part(path, (1.6, 2.2)).frames) == [16, 17, 18, 19, 20, 21]
    with pytest.raises(DecodeError, match="breaks off after 0"):
        read_video(path)

"""The test clip of one video is that of evaluation, whatever the video is, and whichever frames are asked for first."""

from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st

from adafocus_jax.data.batches import sources
from adafocus_jax.data.batches.clips import ClipSpec
from adafocus_jax.data.batches.pipeline import eval_batches
from adafocus_jax.data.batches.single import LazyClip, as_video, read_clip
from adafocus_jax.data.batches.sources import ArrayVideo, VideoData, VideoSource, open_data
from adafocus_jax.data.datasets.annotations import Entry
from adafocus_jax.data.media import frame_folder, sparse_video, video
from adafocus_jax.data.media.video import read_video
from adafocus_jax.data.records import reader
from adafocus_jax.data.records.schema import RecordError
from adafocus_jax.errors import UserError

SPEC = ClipSpec(num_candidates=5, image_size=16, resize=20, num_glance=3)


@pytest.fixture(scope="module")
def folder_of_frames(tmp_path_factory) -> Path:
    """Nine images, the second half of them larger than the first."""
    folder = tmp_path_factory.mktemp("frames")
    for number in range(9):
        side = 24 if number < 4 else 30
        pixels = np.random.default_rng(number).integers(0, 256, (side, side + 6, 3), np.uint8)
        (folder / f"{number:03}.jpg").write_bytes(simplejpeg.encode_jpeg(pixels))
    return folder


@pytest.fixture(scope="module")
def videos(records, video_folder, folder_of_frames, write_video, tmp_path_factory) -> dict[str, VideoData]:
    mpeg4 = write_video(tmp_path_factory.mktemp("mpeg4") / "v.mp4", 30, codec="mpeg4", fps=10)
    return {
        "record": open_data(records, "val")[0],
        "h264": open_data(video_folder, "train")[3],
        "mpeg4": as_video(Entry(str(mpeg4), (0,), "v")),
        "segment": as_video(Entry(str(mpeg4), (0,), "v#1", (1.0, 2.0))),
        "folder": as_video(Entry(str(folder_of_frames), (0,), "f")),
        "array": ArrayVideo(np.random.default_rng(0).integers(0, 256, (7, 20, 28, 3), np.uint8), labels=(0,)),
    }


class One:
    """A source of one video."""

    classes, max_labels, traits = ("a", "b", "c"), 1, {}

    def __init__(self, video: VideoData) -> None:
        self.video = video

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> VideoData:
        return self.video


KINDS = ("record", "h264", "mpeg4", "segment", "folder", "array")


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_the_clip_of_evaluation(videos, kind):
    clip = read_clip(videos[kind], SPEC)
    (batch,) = eval_batches(One(videos[kind]), SPEC, batch_size=1, num_threads=0)
    np.testing.assert_array_equal(clip.frames, batch["frames"][0])
    np.testing.assert_array_equal(clip.glance, batch["glance"][0])


@given(
    kind=st.sampled_from(KINDS),
    asked=st.lists(st.none() | st.lists(st.integers(0, 4), max_size=4), max_size=4),
)
@settings(max_examples=40)
def test_the_order_of_asking_changes_nothing(videos, kind, asked):
    clip, lazy = read_clip(videos[kind], SPEC), LazyClip(videos[kind], SPEC)
    for positions in asked:
        if positions is None:
            np.testing.assert_array_equal(lazy.glance(), clip.glance)
        else:
            np.testing.assert_array_equal(lazy.candidates(positions), clip.frames[positions])
    for got, want in zip(lazy.clip(), clip, strict=True):
        np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(LazyClip(videos[kind], SPEC).times_sec, clip.times_sec)


def test_frames_and_times_are_those_of_the_middles_of_segments(videos):
    clip = read_clip(videos["array"], SPEC)
    assert clip.frame_numbers.tolist() == [0, 2, 3, 4, 6]
    assert clip.times_sec.tolist() == [0, 2, 3, 4, 6]
    segment = read_clip(videos["segment"], SPEC)
    np.testing.assert_allclose(segment.times_sec, [0.1, 0.3, 0.5, 0.7, 0.9], atol=1e-6)
    record = videos["record"]
    np.testing.assert_array_equal(
        read_clip(record, SPEC).times_sec, record.times_sec[read_clip(record, SPEC).frame_numbers]
    )


def test_an_array_is_read_like_the_file_that_it_comes_from(video_folder):
    path = video_folder / "run" / "1.mp4"
    got, want = (read_clip(as_video(video), SPEC) for video in (read_video(path).frames, path))
    np.testing.assert_array_equal(got.frames, want.frames)
    np.testing.assert_array_equal(got.glance, want.glance)


@pytest.mark.parametrize(
    ("kind", "module", "name"),
    [("record", reader.simplejpeg, "decode_jpeg"), ("folder", frame_folder, "read_image")],
)
def test_only_what_is_asked_for_is_decoded_and_only_once(videos, kind, module, name, monkeypatch):
    calls, decode = [], getattr(module, name)
    monkeypatch.setattr(module, name, lambda *args, **options: calls.append(1) or decode(*args, **options))
    spec = ClipSpec(num_candidates=5, image_size=16, resize=20)
    lazy = LazyClip(videos[kind], spec)
    first = len(calls)
    assert first == (kind == "folder"), "the first image of a folder settles the size of all"
    lazy.candidates([3])
    lazy.candidates([3, 4, 3])
    assert len(calls) == first + 2
    lazy.clip()
    assert len(calls) == 5


@pytest.mark.parametrize("kind", ["h264", "mpeg4"])
def test_a_video_file_is_decoded_once_and_converted_on_demand(videos, kind, monkeypatch):
    converted, opened = [], []
    make, open_file = video.rgb_converter, video.av.open

    def counting(*settings):
        convert = make(*settings)
        return lambda frame: converted.append(1) or convert(frame)

    for module in (video, sparse_video):
        monkeypatch.setattr(module, "rgb_converter", counting)
    monkeypatch.setattr(
        video.av, "open", lambda *args, **options: opened.append(1) or open_file(*args, **options)
    )
    lazy = LazyClip(videos[kind], SPEC)
    passes = len(opened)
    assert len(converted) == 1
    lazy.candidates([4])
    assert len(converted) == 2
    lazy.clip()
    assert len(converted) == len({*lazy.frame_numbers.tolist(), *lazy._glance_numbers.tolist()})
    assert len(opened) == passes
    monkeypatch.setattr(sources, "_MAX_HELD_BYTES", 5000)  # six frames of 32 × 24 with their padding
    eager = LazyClip(videos[kind], SPEC)
    assert len(converted) > 8
    np.testing.assert_array_equal(eager.clip().frames, lazy.clip().frames)


def test_what_is_no_video_is_named(tmp_path):
    with pytest.raises(UserError, match=r"no such video: .*/v.mp4; give a video file"):
        as_video(tmp_path / "v.mp4")
    for array in (np.zeros((4, 8, 8), np.uint8), np.zeros((0, 8, 8, 3), np.uint8), np.zeros((4, 8, 8, 3))):
        with pytest.raises(UserError, match=r"is no video: give uint8 \[T, H, W, 3\]"):
            as_video(array)
    with pytest.raises(UserError, match="fps 0 is not valid"):
        ArrayVideo(np.zeros((4, 8, 8, 3), np.uint8), fps=0)
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(RecordError, match=r"text.mp4 does not decode: not a readable video"):
        read_clip(as_video(tmp_path / "text.mp4"), SPEC)
    with pytest.raises(UserError, match="num_glance is None"):
        LazyClip(as_video(np.zeros((4, 8, 8, 3), np.uint8)), ClipSpec(2, 8)).glance()


def test_frames_that_do_not_decode_are_named_when_they_are_asked_for(folder_of_frames, tmp_path):
    for path in folder_of_frames.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "006.jpg").write_bytes(b"no image")
    source = VideoSource([Entry(str(tmp_path), (0,), "v")], ("a",))
    lazy = LazyClip(source[0], ClipSpec(9, 16))
    lazy.candidates([0, 5])
    with pytest.raises(RecordError, match=r"does not decode: 006.jpg does not decode"):
        lazy.candidates([6])

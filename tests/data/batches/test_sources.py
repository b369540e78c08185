import pickle
import shutil
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import simplejpeg

from adafocus_jax.data.batches.clips import ClipSpec
from adafocus_jax.data.batches.pipeline import eval_batches, train_batches
from adafocus_jax.data.batches.sources import SHORT_SIDE, VideoSource, open_data
from adafocus_jax.data.datasets.annotations import Entry
from adafocus_jax.data.media import sparse_video as sparse_decode
from adafocus_jax.data.media.sparse_video import UnusualVideoError, iter_sparse
from adafocus_jax.data.media.video import read_chosen
from adafocus_jax.data.prepare.prepare import prepare
from adafocus_jax.data.records.reader import RecordSource
from adafocus_jax.data.records.schema import RecordError
from adafocus_jax.errors import UserError
from adafocus_jax.visualize.files import write_mp4

SPEC = ClipSpec(num_candidates=4, image_size=32)


@pytest.fixture(scope="module")
def textured(tmp_path_factory) -> Path:
    """60 frames of moving texture, a third of them B-frames that nothing refers to."""
    path = tmp_path_factory.mktemp("textured") / "v.mp4"
    texture = cv2.resize(np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8), (128, 128))
    write_mp4(path, (texture[step : step + 48, step // 2 : step // 2 + 64] for step in range(60)), 25)
    return path


def every_other(num_frames: int) -> range:
    return range(1, num_frames, 2)


def test_frames_that_nothing_needs_are_skipped_and_the_rest_is_the_same(textured):
    with av.open(str(textured)) as container:
        container.streams.video[0].codec_context.skip_frame = "NONREF"
        needed = sum(1 for _ in container.decode(video=0))
    assert needed < 45, "the file is not one that the test is about"
    for numbers in ([0, 1, 2, 7, 30, 31, 58, 59], [40], list(range(60))):
        sparse = iter_sparse(str(textured), lambda _, numbers=numbers: numbers, short_side=40)
        expected = read_chosen(textured, lambda _, numbers=numbers: np.array(numbers), short_side=40)
        got, times_sec, frames = zip(*sparse, strict=True)
        assert list(got) == numbers
        np.testing.assert_allclose(times_sec, expected.times_sec, atol=1e-6)
        np.testing.assert_array_equal(frames, expected.frames)


@pytest.mark.parametrize("unusual", ["interlaced", "mpeg4", "cut", "large"])
def test_what_is_unusual_is_left_to_the_careful_decoder(
    unusual, textured, write_video, film, tmp_path, monkeypatch
):
    path = tmp_path / "v.mp4"
    if unusual == "interlaced":
        film.write(path, [0, 0.04, 0.08], 0.04, **{"x264-params": "tff=1"})
    elif unusual == "mpeg4":
        write_video(path, codec="mpeg4")
    elif unusual == "cut":
        path.write_bytes(textured.read_bytes()[:-5000])
    elif unusual == "large":
        path = textured
        monkeypatch.setattr(sparse_decode, "_MAX_BYTES", path.stat().st_size - 1)
    with pytest.raises(UnusualVideoError):
        list(iter_sparse(str(path), every_other, short_side=16))


def test_a_folder_of_videos_gives_the_clips_that_its_records_give(video_folder, tmp_path):
    prepare(video_folder, tmp_path / "records", size=SHORT_SIDE, fps=None, quality=98, workers=0, shards=1)
    videos, records = open_data(video_folder, "train"), open_data(tmp_path / "records", "train")
    assert isinstance(videos, VideoSource)
    assert isinstance(records, RecordSource)
    assert (videos.classes, videos.max_labels, len(videos)) == (records.classes, 1, len(records))
    names = {records[index].name: index for index in range(len(records))}
    from_videos, from_records = (
        next(eval_batches(source, SPEC, batch_size=15, num_threads=0)) for source in (videos, records)
    )
    for index in range(len(videos)):
        other = names[videos[index].name]
        assert from_videos["label"][index] == from_records["label"][other]
        difference = np.abs(from_videos["frames"][index].astype(int) - from_records["frames"][other])
        assert difference.mean() < 3, "the records went through JPEG"


def test_clips_of_videos_depend_on_seed_and_step_alone(video_folder):
    source = pickle.loads(pickle.dumps(open_data(video_folder, "train")))
    options = {"batch_size": 4, "seed": 1, "num_steps": 5}
    expected = list(train_batches(source, SPEC, num_threads=0, **options))[2:]
    got = list(train_batches(source, SPEC, num_threads=2, start_step=2, **options))
    for batch, want in zip(got, expected, strict=True):
        assert {key: value.tobytes() for key, value in batch.items()} == {
            k: v.tobytes() for k, v in want.items()
        }


def test_small_clips_of_large_videos_are_reduced_first(video_folder):
    video = open_data(video_folder, "train")[0]
    for factor, side in ((1, 256), (4, 64)):
        (frame,) = video.read(lambda count: [2], lambda height, width: factor)  # noqa: B023
        assert (frame.number, min(frame.pixels.shape[:2])) == (2, side)


def test_class_folders_of_frame_folders(tmp_path):
    for label, name in enumerate(("a", "b")):
        for video in range(2):
            (tmp_path / name / str(video)).mkdir(parents=True)
            for number in range(1, 9):
                pixels = np.full((32, 40, 3), 100 * label + 10 * video + number, np.uint8)
                (tmp_path / name / str(video) / f"img_{number:05d}.jpg").write_bytes(
                    simplejpeg.encode_jpeg(pixels)
                )
    source = open_data(tmp_path, "train")
    (batch,) = eval_batches(source, SPEC, batch_size=4, num_threads=0)
    assert batch["label"].tolist() == [0, 0, 1, 1]
    assert [source[index].name for index in range(4)] == ["a/0", "a/1", "b/0", "b/1"]
    starts = batch["frames"].mean((2, 3, 4)) - np.array([2, 4, 6, 8])
    np.testing.assert_allclose(starts, np.array([[0], [10], [100], [110]]) + np.zeros(4), atol=1.5)
    (tmp_path / "b" / "1" / "img_00004.jpg").write_bytes(b"no image")
    with pytest.raises(RecordError, match=r"b/1 does not decode: img_00004.jpg does not decode"):
        list(eval_batches(source, SPEC, batch_size=4, num_threads=0))


def test_segments_of_one_file(write_video, tmp_path):
    path = write_video(tmp_path / "v.mp4", 30, fps=10)
    entries = [Entry(str(path), (0,), f"v#{start}", (start, start + 1.0)) for start in (0.0, 1.0, 2.0)]
    (batch,) = eval_batches(VideoSource(entries, ("a",)), SPEC, batch_size=3, num_threads=0)
    levels = (batch["frames"].mean((1, 2, 3, 4)) - 10) / 8
    np.testing.assert_allclose(np.diff(levels), 10, atol=1)
    entries = [Entry(str(path), (0,), "v", (2.5, 5.0))]
    with pytest.raises(RecordError, match=r"v.mp4 does not decode: segment 2.50–5.00 s is not there"):
        next(eval_batches(VideoSource(entries, ("a",)), SPEC, batch_size=1, num_threads=0))


def test_a_video_that_does_not_decode_is_skipped_or_named(video_folder, tmp_path):
    shutil.copytree(video_folder, tmp_path / "videos")
    (tmp_path / "videos" / "jump" / "2.mp4").write_text("no video")
    source = open_data(tmp_path / "videos", "train")
    with pytest.raises(RecordError, match=r"jump/2.mp4 does not decode: not a readable video"):
        list(eval_batches(source, SPEC, batch_size=15, num_threads=0))
    (batch,) = eval_batches(source, SPEC, batch_size=15, num_threads=0, on_bad_record="skip")
    assert np.flatnonzero(~batch["mask"]).tolist() == [2]


def test_splits_of_a_folder(video_folder, tmp_path):
    train, val = (open_data(video_folder, split, val_fraction=0.25) for split in ("train", "val"))
    names = [{source[index].name for index in range(len(source))} for source in (train, val)]
    assert [len(part) for part in names] == [11, 4]
    assert not names[0] & names[1]
    with pytest.raises(
        UserError, match=r"no split 'val' in the videos of .*: there are train; give .*val_fraction"
    ):
        open_data(video_folder, "val")
    with pytest.raises(UserError, match="no split 'train\\[:50%\\]'"):
        open_data(video_folder, "train[:50%]")
    shutil.copytree(video_folder, tmp_path / "both" / "train")
    shutil.copytree(video_folder / "run", tmp_path / "both" / "val" / "run")
    assert len(open_data(tmp_path / "both", "train")) == 15
    assert [entry.labels for entry in open_data(tmp_path / "both", "val")] == [(1,)] * 5


def test_neither_records_nor_videos(tmp_path):
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UserError, match="are not there: run adafocus prepare"):
            open_data(path, "train")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="has no videos"):
        open_data(tmp_path, "train")
    with pytest.raises(IndexError):
        VideoSource([Entry("v.mp4", (0,), "v.mp4")], ("a",))[1]

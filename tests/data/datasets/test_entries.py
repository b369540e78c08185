import dataclasses
import pickle

import numpy as np
import pytest
import simplejpeg

from adafocus_jax.data.datasets.annotations import Entry
from adafocus_jax.data.datasets.entries import ReadOptions, iter_chosen, iter_entry, read_entry
from adafocus_jax.errors import UserError


def write_images(folder, count: int):
    folder.mkdir(parents=True)
    for number in range(count):
        pixels = np.full((9, 9, 3), 10 * number, np.uint8)
        (folder / f"{number}.jpg").write_bytes(simplejpeg.encode_jpeg(pixels))
    return folder


def write_volume(path):
    nibabel = pytest.importorskip("nibabel", reason="NIfTI volumes need nibabel (extra mri)")
    slices = np.broadcast_to(np.arange(4, dtype=np.float32)[:, None, None], (4, 5, 6))
    nibabel.save(nibabel.Nifti1Image(slices, np.eye(4)), path)
    return path


def test_each_kind_is_read_by_its_reader_with_its_options(tmp_path, write_video):
    def read(path, **options):
        entry = Entry(str(path), (0,), "name", (1.0, 2.0))
        return read_entry(entry, short_side=8, max_fps=None, options=ReadOptions(**options))

    video = read(write_video(tmp_path / "v.mp4", 30, fps=10))
    assert (video.frames.shape, round(video.fps)) == ((10, 8, 11, 3), 10)
    folder = read(write_images(tmp_path / "frames", 12), frame_rate=5.0)
    assert (folder.frames.shape, round(folder.fps)) == ((5, 8, 8, 3), 5)
    volume = read(write_volume(tmp_path / "v.nii.gz"), axis=0, window=(0.0, 255.0))
    assert (volume.frames.shape, np.unique(volume.frames).tolist()) == ((1, 10, 8, 3), [1])


@pytest.mark.parametrize("segment", [None, (1.0, 3.0)], ids=["whole", "segment"])
@pytest.mark.parametrize("kind", ["video", "frames", "volume"])
def test_chosen_frames_of_each_kind_are_those_of_the_whole(kind, segment, tmp_path, write_video):
    write = {
        "video": lambda: write_video(tmp_path / "v.mp4", 30, fps=10),
        "frames": lambda: write_images(tmp_path / "v", 20),
        "volume": lambda: write_volume(tmp_path / "v.nii"),
    }[kind]
    entry, options = Entry(str(write()), (0,), "name", segment), ReadOptions(5.0, axis=0, window=(0.0, 9.0))
    whole = iter_entry(entry, short_side=8, max_fps=None, options=options)
    everything = list(whole)
    counts = []

    def every_other(count):
        counts.append(count)
        return range(1, count, 2)

    chosen = list(iter_chosen(entry, every_other, short_side=8, options=options))
    assert counts[-1] == len(everything)
    for frame, number in zip(chosen, range(1, len(everything), 2), strict=True):
        assert (frame.number, frame.time_sec) == (number, pytest.approx(everything[number][0]))
        np.testing.assert_array_equal(frame.pixels, everything[number][1])


def test_images_that_are_not_chosen_are_not_read(tmp_path):
    folder = write_images(tmp_path / "v", 6)
    for number in (0, 2, 3, 5):
        (folder / f"{number}.jpg").write_bytes(b"no image")
    entry = Entry(str(folder), (0,), "v")
    frames = iter_chosen(entry, lambda count: (1, count - 2), short_side=9, options=ReadOptions())
    assert [(frame.number, round(frame.pixels.mean())) for frame in frames] == [(1, 10), (4, 40)]


@pytest.mark.parametrize(
    ("option", "message"),
    [({"frame_rate": 0}, "frame_rate=0"), ({"axis": 3}, "axis=3"), ({"window": (2.0, 2.0)}, "window")],
)
def test_options_out_of_range(option, message):
    with pytest.raises(UserError, match=message):
        ReadOptions(**option)


def test_entries_and_options_travel_to_workers():
    things = (
        Entry("v.mp4", (1,), "v.mp4#1.00-2.00", (1.0, 2.0)),
        dataclasses.replace(ReadOptions(), window=(0, 1)),
    )
    assert pickle.loads(pickle.dumps(things)) == things

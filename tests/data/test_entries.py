import dataclasses
import pickle

import numpy as np
import pytest
import simplejpeg

from adafocus_jax.data.annotations import Entry
from adafocus_jax.data.entries import ReadOptions, read_entry
from adafocus_jax.errors import UserError


def test_each_kind_is_read_by_its_reader_with_its_options(tmp_path, write_video):
    def read(path, **options):
        entry = Entry(str(path), (0,), "name", (1.0, 2.0))
        return read_entry(entry, short_side=8, max_fps=None, options=ReadOptions(**options))

    video = read(write_video(tmp_path / "v.mp4", 30, fps=10))
    assert (video.frames.shape, round(video.fps)) == ((10, 8, 11, 3), 10)
    (tmp_path / "frames").mkdir()
    for number in range(12):
        (tmp_path / "frames" / f"{number}.jpg").write_bytes(
            simplejpeg.encode_jpeg(np.zeros((9, 9, 3), np.uint8))
        )
    folder = read(tmp_path / "frames", frame_rate=5.0)
    assert (folder.frames.shape, round(folder.fps)) == ((5, 8, 8, 3), 5)
    nibabel = pytest.importorskip("nibabel", reason="NIfTI volumes need nibabel (extra mri)")
    slices = np.broadcast_to(np.arange(4, dtype=np.float32)[:, None, None], (4, 5, 6))
    nibabel.save(nibabel.Nifti1Image(slices, np.eye(4)), tmp_path / "v.nii.gz")
    volume = read(tmp_path / "v.nii.gz", axis=0, window=(0.0, 255.0))
    assert (volume.frames.shape, np.unique(volume.frames).tolist()) == ((1, 10, 8, 3), [1])


@pytest.mark.parametrize(
    ("option", "message"),
    [({"frame_rate": 0}, "frame rate 0"), ({"axis": 3}, "axis 3"), ({"window": (2.0, 2.0)}, "window")],
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

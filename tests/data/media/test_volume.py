import sys

import numpy as np
import pytest

from adafocus_jax.data.media.video import DecodeError, stack_frames
from adafocus_jax.data.media.volume import iter_slices
from adafocus_jax.errors import UserError


def read(path, axis=2, window=None, **options):
    return stack_frames(iter_slices(path, axis, window, **options))


@pytest.fixture
def volume(tmp_path):
    """A volume of 4 × 5 × 6 voxels, intensity 100 x + 10 y + z, written with the given affine."""
    nibabel = pytest.importorskip("nibabel", reason="NIfTI volumes need nibabel (extra mri)")
    x, y, z = np.meshgrid(range(4), range(5), range(6), indexing="ij")

    def make(name="v.nii.gz", intensities=100 * x + 10 * y + z, affine=None, dtype=np.float32):
        image = nibabel.Nifti1Image(intensities.astype(dtype), np.eye(4) if affine is None else affine)
        nibabel.save(image, tmp_path / name)
        return tmp_path / name

    return make


@pytest.mark.parametrize(("name", "dtype"), [("v.nii", np.int16), ("v.nii.gz", np.float64)])
def test_slices_of_a_volume(volume, name, dtype):
    video = read(volume(name, dtype=dtype), window=(0.0, 510.0))
    assert video.frames.shape == (
        6,
        5,
        4,
        3,
    )  # axial slices: rows from front to back, columns from left to right
    assert video.fps == pytest.approx(1)
    x, y = np.arange(4), np.arange(5)[::-1, None]
    expected = np.rint((100 * x + 10 * y + np.arange(6)[:, None, None]) / 2)
    np.testing.assert_allclose(video.frames[..., 0], expected, atol=1)
    assert (video.frames == video.frames[..., :1]).all()


@pytest.mark.parametrize(("axis", "shape"), [(0, (4, 6, 5, 3)), (1, (5, 6, 4, 3)), (2, (6, 5, 4, 3))])
def test_the_axis_does_not_depend_on_how_the_volume_is_stored(volume, axis, shape):
    upright = read(volume(), axis=axis).frames
    assert upright.shape == shape
    x, y, z = np.meshgrid(range(4), range(5), range(6), indexing="ij")
    turned = np.moveaxis((100 * x + 10 * y + z)[::-1], (0, 1, 2), (1, 2, 0))
    affine = np.array([[0, -1, 0, 3], [0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1.0]])
    np.testing.assert_array_equal(read(volume("t.nii", turned, affine), axis=axis).frames, upright)


def test_the_window_is_that_of_the_volume_by_default(volume):
    frames = read(volume(), axis=0, short_side=8).frames
    assert frames.shape == (4, 10, 8, 3)
    assert (frames.min(), frames.max()) == (0, 255)
    assert not read(volume("flat.nii", np.full((2, 3, 4), 7.0))).frames.any()
    holes = np.full((2, 3, 4), np.nan)
    holes[0] = 1.0
    assert read(volume("nan.nii", holes)).frames.max() == 255
    white = read(volume(), window=(-1e9, -1e8), segment=(2.0, 4.0)).frames
    assert (len(white), white.min()) == (2, 255)


def test_volumes_that_do_not_decode(tmp_path, volume):
    path = volume()
    (tmp_path / "short.nii.gz").write_bytes(path.read_bytes()[:-30])
    (tmp_path / "text.nii").write_text("no volume")
    (tmp_path / "damaged.nii.gz").write_bytes(path.read_bytes()[:40] + bytes(40) + path.read_bytes()[80:])
    for name, message in [
        ("short.nii.gz", "not a readable volume"),
        ("text.nii", "not a readable volume"),
        ("damaged.nii.gz", "not a readable volume"),
        ("gone.nii", "not a readable volume"),
        (volume("series.nii", np.zeros((2, 2, 2, 3))).name, r"of shape \(2, 2, 2, 3\)"),
    ]:
        with pytest.raises(DecodeError, match=message):
            read(tmp_path / name)
    assert read(volume("one.nii", np.zeros((2, 3, 4, 1)))).frames.shape == (4, 3, 2, 3)


def test_volumes_without_nibabel(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(UserError, match=r"pip install 'adafocus_jax\[mri\]'"):
        read(tmp_path / "v.nii")

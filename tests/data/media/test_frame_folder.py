import re

import cv2
import numpy as np
import pytest
import simplejpeg

from adafocus_jax.data.media.frame_folder import iter_folder
from adafocus_jax.data.media.video import DecodeError, stack_frames


def read(folder, **options):
    return stack_frames(iter_folder(folder, **{"frame_rate": 12.0, **options}))


def levels(frames) -> list[int]:
    """Which frames these are: frame i is written with level 10 + 8 i."""
    return [round((float(np.mean(frame)) - 10) / 8) for frame in frames]


@pytest.fixture
def frame_folder(tmp_path):
    """Writes images by name, of level 10 + 8 × number."""

    def make(*names, height=8, width=12, name="v"):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        for file in names:
            number = int(re.findall(r"\d+", file)[-1])
            pixels = np.full((height, width, 3), 10 + 8 * number, np.uint8)
            write_image(folder / file, pixels)
        return folder

    return make


def write_image(path, pixels):
    if path.suffix.lower() == ".png":
        cv2.imwrite(str(path), pixels[..., ::-1])
    else:
        path.write_bytes(simplejpeg.encode_jpeg(pixels))


@pytest.mark.parametrize(
    "pattern", ["image_{:05d}.jpg", "img_{:05d}.JPG", "{:06d}.png", "{}.jpeg", "v2 {}.png"]
)
def test_folders_of_frames(frame_folder, pattern):
    folder = frame_folder(*(pattern.format(number) for number in (1, 2, 3, 9, 10)))
    (folder / "flow_x_00001.jpg").write_bytes(b"not looked at")
    (folder / "Thumbs.db").touch()
    frames = list(iter_folder(folder, 12.0))
    assert levels(frame for _, frame in frames) == [1, 2, 3, 9, 10]
    np.testing.assert_allclose([time for time, _ in frames], np.array([0, 1, 2, 8, 9]) / 12)
    assert frames[0][1].shape == (8, 12, 3)


def test_the_frame_rate_of_folders(frame_folder):
    folder = frame_folder(*(f"{number:05d}.jpg" for number in range(1, 25)))
    assert read(folder).fps == pytest.approx(12)
    assert read(folder, frame_rate=30.0).fps == pytest.approx(30)
    assert levels(read(folder, max_fps=4).frames) == [1, 4, 7, 10, 13, 16, 19, 22]
    assert levels(read(folder, segment=(1.0, 1.5)).frames) == [13, 14, 15, 16, 17, 18]
    with pytest.raises(DecodeError, match=r"segment 2\.00–3\.00 s is not there: frames end after 2\.00 s"):
        read(folder, segment=(2.0, 3.0))


@pytest.mark.parametrize("size", [(1, 1), (9, 5), (5, 9)])
def test_odd_sizes(frame_folder, size):
    folder = frame_folder("1.png", height=size[0], width=size[1])
    frame_folder("2.png", height=7, width=7)
    assert read(folder).frames.shape == (2, *size, 3)
    assert min(read(folder, short_side=4).frames.shape[1:3]) == 4


def test_grey_and_transparent_images_become_rgb(tmp_path, frame_folder):
    folder = frame_folder("1.png")
    cv2.imwrite(str(folder / "2.png"), np.full((8, 12), 26, np.uint8))
    cv2.imwrite(str(folder / "3.png"), np.full((8, 12, 4), 34, np.uint8))
    coloured = np.zeros((8, 12, 3), np.uint8)
    coloured[..., 0] = 200
    write_image(folder / "4.png", coloured)
    frames = read(folder).frames
    assert levels(frames[:3]) == [1, 2, 3]
    assert frames[3, 0, 0].tolist() == [200, 0, 0]


@pytest.mark.parametrize(
    ("names", "broken", "message"),
    [
        (("1.jpg", "2.jpg"), "2.jpg", r"2\.jpg does not decode: "),
        (("1.png", "2.png"), "2.png", r"2\.png does not decode"),
        ((), None, "holds no numbered images"),
        (("rgb_1.jpg", "depth_1.jpg"), None, "several series: depth_, rgb_"),
        (("1.jpg", "01.jpg"), None, "two images of the same number"),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_folders_that_do_not_decode(frame_folder, capfd, names, broken, message):
    folder = frame_folder(*names)
    if broken is not None:
        (folder / broken).write_bytes((folder / broken).read_bytes()[:-20])
    with pytest.raises(DecodeError, match=message):
        read(folder)
    if broken is not None:
        (folder / broken).write_bytes(b"")
        with pytest.raises(DecodeError, match=message):
            read(folder)

"""Pictures come as a viewer sees them."""

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from adafocus_jax.data.media.frame_folder import iter_folder
from adafocus_jax.data.media.frames import DecodeError
from adafocus_jax.data.media.limits import ReadLimits
from adafocus_jax.data.media.orientation import UPRIGHT, of_jpeg
from adafocus_jax.data.media.tone_mapping import (
    HLG,
    PQ,
    hlg_to_scene,
    knee,
    nits_to_pq,
    pq_to_nits,
    to_standard_range,
)
from adafocus_jax.data.media.video import iter_frames, read_chosen


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_images_are_turned_as_their_exif_data_say(tmp_path, film, suffix):
    for number, (tag, turn) in enumerate(film.EXIF.items()):
        exif = Image.Exif()
        exif[0x0112] = tag
        image = Image.fromarray(film.stored(film.picture(number), film.MATRICES[turn]))
        image.save(
            tmp_path / f"DSC{number:04d}{suffix}", exif=exif, **({} if suffix == ".png" else {"quality": 95})
        )
    frames = [frame for _, frame in iter_folder(tmp_path, 12.0)]
    assert film.numbers(frames) == list(range(8))
    assert all(map(film.is_upright, frames))


def test_bitmaps_are_frames(tmp_path, film):
    for number in range(3):
        Image.fromarray(film.picture(number)).save(tmp_path / f"{number}.bmp")
    frames = [frame for _, frame in iter_folder(tmp_path, 12.0)]
    assert film.numbers(frames) == [0, 1, 2]


@given(
    st.binary(max_size=60),
    st.sampled_from([b"", b"\xff\xd8", b"\xff\xd8\xff\xe1\x00\x40Exif\0\0II*\0\x08\0\0\0"]),
)
def test_broken_exif_data_turn_nothing_or_something(data, head):
    assert of_jpeg(head + data) is not None
    assert of_jpeg(b"") == UPRIGHT


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp"])
def test_images_that_are_too_large(tmp_path, film, suffix):
    Image.fromarray(film.picture(0)).save(tmp_path / f"1{suffix}")
    with pytest.raises(DecodeError, match="too large: 64 × 96 pixels"):
        list(iter_folder(tmp_path, 1.0, limits=ReadLimits(max_pixels=6143)))
    assert list(iter_folder(tmp_path, 1.0, limits=ReadLimits(max_pixels=6144)))
    if suffix == ".webp":
        Image.fromarray(film.picture(0)).save(tmp_path / f"1{suffix}", lossless=True)
        with pytest.raises(DecodeError, match="too large: 64 × 96 pixels"):
            list(iter_folder(tmp_path, 1.0, limits=ReadLimits(max_pixels=6143)))


@pytest.mark.parametrize(
    ("codec", "options"), [("libx264", {"x264-params": "tff=1"}), ("mpeg2video", {"flags": "+ildct+ilme"})]
)
def test_interlaced_frames_show_one_moment(tmp_path, codec, options):
    """A bar moves by 4 pixels from field to field: in a frame as it is stored, its edges are combs."""

    def scene(field: int) -> np.ndarray:
        image = np.full((96, 160, 3), 60, np.uint8)
        image[20:76, 10 + 4 * field : 40 + 4 * field] = 220
        return image

    path = tmp_path / "film.ts"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        for number in range(10):
            frame = scene(2 * number)
            frame[1::2] = scene(2 * number + 1)[1::2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(stream.encode(None))
    times, frames = zip(*iter_frames(path), strict=True)
    np.testing.assert_allclose(times, np.arange(10) / 25, atol=2e-3)
    for number, frame in enumerate(frames):
        moments = [np.abs(frame.astype(int) - scene(2 * number + field)).mean() for field in (0, 1)]
        assert min(moments) < 1 < max(moments)
    chosen = read_chosen(path, lambda total: [0, 4, total - 1])
    np.testing.assert_array_equal(np.stack(chosen.frames), np.stack(frames)[[0, 4, 9]])


def test_a_change_of_size_keeps_the_size_of_the_first_frame(tmp_path, film):
    for name, first, scale in (("a", 0, 1), ("b", 6, 2)):
        size = film.HEIGHT * scale, film.WIDTH * scale
        film.write(
            tmp_path / name, [place / 25 for place in range(6)], 0.04, format="h264", first=first, size=size
        )
    (tmp_path / "ab.h264").write_bytes((tmp_path / "a").read_bytes() + (tmp_path / "b").read_bytes())
    with av.open(str(tmp_path / "ab.h264")) as source, av.open(str(tmp_path / "ab.mp4"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for place, packet in enumerate(packet for packet in source.demux() if packet.size):
            packet.stream, packet.pts, packet.dts, packet.duration = stream, place, place, 1
            packet.time_base = Fraction(1, 25)
            target.mux(packet)
    for path in (tmp_path / "ab.h264", tmp_path / "ab.mp4"):
        frames = [frame for _, frame in iter_frames(path)]
        assert film.numbers(frames) == list(range(12))
        assert {frame.shape for frame in frames} == {(film.HEIGHT, film.WIDTH, 3)}
        assert film.numbers(read_chosen(path, lambda total: [1, 7]).frames) == [1, 7]


def test_the_curves_of_the_standards():
    """ST 2084 and BT.2100: PQ is the inverse of itself; 58 % of PQ and 75 % of HLG are diffuse white, 203 cd/m²."""
    nits = np.geomspace(1e-3, 1e4, 50)
    np.testing.assert_allclose(pq_to_nits(nits_to_pq(nits)), nits, rtol=1e-9)
    assert pq_to_nits(np.array(0.5806)) == pytest.approx(203, rel=0.01)
    assert 1000 * hlg_to_scene(np.array(0.75)) ** 1.2 == pytest.approx(203, rel=0.01)
    assert float(hlg_to_scene(np.array(1.0))) == pytest.approx(1)
    assert float(hlg_to_scene(np.array(0.5))) == pytest.approx(1 / 12)
    shown = knee(nits)
    assert (np.diff(shown) >= 0).all()
    np.testing.assert_allclose(shown[nits < 85], nits[nits < 85], rtol=1e-6)
    assert knee(np.array([1000.0, 4000.0])) == pytest.approx([203, 203])


FROM_BT709 = np.linalg.inv(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]]
)


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_high_dynamic_range_looks_like_standard_range(tmp_path, transfer):
    """Colours of BT.709 at up to 80 cd/m² come back as they are; brighter ones stay apart, and keep their hue."""
    colours = np.array(
        [[1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0.2, 0.2, 0.2], [0.8, 0.5, 0.4], [0, 0, 0]]
    )
    light = np.concatenate([80 * colours, [[150] * 3, [203] * 3, [400] * 3, [1000] * 3]]) @ FROM_BT709.T
    path = write_hdr(tmp_path / "film.mkv", signal_of(np.maximum(light, 0), transfer), transfer)
    frame = next(iter_frames(path))[1]
    seen = frame[8, 8::16].astype(int)
    np.testing.assert_allclose((seen[:8] / 255) ** 2.4, 80 / 203 * colours, atol=0.02)
    greys = seen[8:]
    assert np.ptp(greys, axis=-1).max() <= 2
    assert (np.diff(greys[:, 0]) >= 3).all()
    assert greys[1, 0] == pytest.approx(230, abs=3)
    assert greys[-1, 0] >= 253
    assert read_chosen(path, lambda total: [0]).frames[0].shape == frame.shape


def test_bright_colours_keep_their_hue():
    red = np.array([600.0, 60, 30]) @ FROM_BT709.T
    image = np.rint(65535 * nits_to_pq(red)).astype(np.uint16)[None, None]
    light = (to_standard_range(image, PQ)[0, 0] / 255) ** 2.4
    assert light / light[0] == pytest.approx([1, 0.1, 0.05], abs=0.01)


def signal_of(nits: np.ndarray, transfer: int) -> np.ndarray:
    if transfer == PQ:
        return nits_to_pq(nits)
    luminance = nits @ [0.2627, 0.6780, 0.0593]
    scene = nits / 1000 * np.maximum(luminance / 1000, 1e-9)[:, None] ** (1 / 1.2 - 1)
    levels = np.linspace(0, 1, 4096)
    return np.interp(scene, hlg_to_scene(levels), levels)


def write_hdr(path: Path, signal: np.ndarray, transfer: int) -> Path:
    """Two frames of patches of 16 pixels, ``signal [n, 3]`` R'G'B' of BT.2020 in [0, 1], without loss, in 10 bits."""
    luma = signal @ [0.2627, 0.6780, 0.0593]
    chroma = [(signal[:, 2] - luma) / 1.8814, (signal[:, 0] - luma) / 1.4746]
    planes = [(luma * 219 + 16, 16), *((plane * 224 + 128, 8) for plane in chroma)]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.height, stream.width, stream.pix_fmt = 16, 16 * len(signal), "yuv420p10le"
        context = stream.codec_context
        context.color_trc, context.color_primaries, context.colorspace, context.color_range = (
            transfer,
            9,
            9,
            1,
        )
        frame = av.VideoFrame(stream.width, stream.height, "yuv420p10le")
        for plane, (levels, patch) in zip(frame.planes, planes, strict=True):
            rows = np.zeros((patch, plane.line_size // 2), np.uint16)
            rows[:, : patch * len(signal)] = np.repeat(np.rint(4 * levels), patch)
            plane.update(rows.tobytes())
        for number in range(2):
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_pixels_become_square(tmp_path, film):
    """What is stored as a narrow ellipse is a circle."""
    ring = np.zeros((64, 48, 3), np.uint8)
    cv2.ellipse(ring, (24, 32), (10, 20), 0, 0, 360, (255, 255, 255), -1)
    path = tmp_path / "film.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.height, stream.width, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.sample_aspect_ratio = 2
        container.mux(
            [*stream.encode(av.VideoFrame.from_ndarray(ring, format="rgb24")), *stream.encode(None)]
        )
    ((_, frame),) = iter_frames(path)
    assert frame.shape == (64, 96, 3)
    disc = frame[..., 0] > 127
    assert disc.any(axis=0).sum() == pytest.approx(disc.any(axis=1).sum(), abs=1)

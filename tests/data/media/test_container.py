"""Which files are opened: those that are named, and no others."""

import re
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition

from adafocus_jax.data import media
from adafocus_jax.data.datasets.annotations import scan_class_folders
from adafocus_jax.data.media.formats import CODECS, FORMATS, IMAGE_SUFFIXES, VIDEO_SUFFIXES, VOLUME_SUFFIXES
from adafocus_jax.data.media.frames import DecodeError
from adafocus_jax.data.media.limits import ReadLimits
from adafocus_jax.data.media.sparse_video import iter_sparse
from adafocus_jax.data.media.video import iter_frames, read_chosen
from adafocus_jax.errors import UserError

# What writes a file of each container: muxer, encoder, pixel format; None: nothing does that comes with PyAV.
WRITERS = {
    "mov": ("mp4", "libx264", "yuv420p"),
    "matroska": ("matroska", "libvpx", "yuv420p"),
    "avi": ("avi", "msmpeg4v2", "yuv420p"),
    "mpegts": ("mpegts", "mpeg2video", "yuv420p"),
    "mpeg": ("vob", "mpeg1video", "yuv420p"),
    "mpegvideo": ("mpeg2video", "mpeg2video", "yuv420p"),
    "asf": ("asf", "wmv1", "yuv420p"),
    "flv": ("flv", "flv", "yuv420p"),
    "ogg": None,
    "gif": ("gif", "gif", "rgb8"),
    "rm": ("rm", "rv20", "yuv420p"),
    "mxf": ("mxf", "mpeg2video", "yuv420p"),
    "dv": ("dv", "dvvideo", "yuv420p"),
    "ivf": ("ivf", "libvpx", "yuv420p"),
    "yuv4mpegpipe": ("yuv4mpegpipe", "wrapped_avframe", "yuv420p"),
    "h264": ("h264", "libx264", "yuv420p"),
    "hevc": ("hevc", "libx265", "yuv420p"),
}  # fmt: skip

# Encoders of other codecs, and the container and pixel format to write them in.
ENCODERS = {
    "h263": ("mov", "yuv420p"),
    "mpeg4": ("avi", "yuv420p"),
    "msmpeg4": ("avi", "yuv420p"),
    "wmv2": ("asf", "yuv420p"),
    "libsvtav1": ("mp4", "yuv420p"),
    "libvpx-vp9": ("webm", "yuv420p"),
    "rv10": ("rm", "yuv420p"),
    "svq1": ("mov", "yuv410p"),
    "cinepak": ("avi", "rgb24"),
    "msvideo1": ("avi", "rgb555le"),
    "mjpeg": ("avi", "yuvj420p"),
    "jpeg2000": ("mov", "rgb24"),
    "png": ("mov", "rgb24"),
    "prores": ("mov", "yuv422p10le"),
    "cfhd": ("mov", "yuv422p10le"),
    "qtrle": ("mov", "rgb24"),
    "rpza": ("mov", "rgb555le"),
    "rawvideo": ("avi", "yuv420p"),
    "huffyuv": ("avi", "yuv422p"),
    "ffvhuff": ("avi", "yuv420p"),
    "ffv1": ("matroska", "yuv420p"),
    "utvideo": ("avi", "yuv420p"),
    "magicyuv": ("avi", "yuv420p"),
    "flashsv": ("flv", "bgr24"),
}

NUM_FRAMES = 6
TIMES = [number / 25 for number in range(NUM_FRAMES)]


@pytest.mark.parametrize("container", FORMATS)
def test_every_container_by_each_of_its_suffixes(tmp_path, film, container):
    assert av.format.ContainerFormat(container, "r").is_input
    if WRITERS[container] is None:
        return
    muxer, encoder, pixels = WRITERS[container]
    options = {"codec": encoder, "format": muxer, "pixels": pixels}
    if encoder == "dvvideo":
        options["size"] = (576, 720)
    if encoder == "libx265":
        options["x265-params"] = "log-level=none"
    (tmp_path / "class").mkdir()
    written = film.write(tmp_path / "class" / f"film{FORMATS[container][0]}", TIMES, 1 / 25, **options)
    for suffix in FORMATS[container][1:]:
        written.with_suffix(suffix).write_bytes(written.read_bytes())
    entries, _ = scan_class_folders(tmp_path)
    assert {Path(entry.path).suffix for entry in entries} == {*FORMATS[container]}
    for entry in entries:
        times, frames = zip(*iter_frames(entry.path), strict=True)
        assert film.numbers(frames) == list(range(NUM_FRAMES))
        assert all(map(film.is_upright, frames))
        np.testing.assert_allclose(times, TIMES, atol=2e-3)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_every_codec_that_can_be_written_here(tmp_path, film, encoder):
    muxer, pixels = ENCODERS[encoder]
    height, width = (144, 176) if encoder == "h263" else (film.HEIGHT, film.WIDTH)
    options = {"svtav1-params": "lp=1"} if encoder == "libsvtav1" else {}
    path = film.write(
        tmp_path / "film",
        TIMES,
        1 / 25,
        codec=encoder,
        format=muxer,
        pixels=pixels,
        size=(height, width),
        **options,
    )
    assert film.numbers([frame for _, frame in iter_frames(path)]) == list(range(NUM_FRAMES))


@pytest.mark.parametrize("codec", CODECS)
def test_every_codec_that_is_named_is_a_decoder(codec):
    assert av.codec.Codec(codec, "r").is_decoder


def test_what_is_supported_is_said_by_name():
    said = re.sub(r"[`,():]|\.(?=\s)", " ", media.__doc__).split()
    for name in (*FORMATS, *CODECS, *VIDEO_SUFFIXES, *IMAGE_SUFFIXES, *VOLUME_SUFFIXES):
        assert name in said, f"the docstring of adafocus_jax.data.media does not name {name}"


SECRET = "film.mp4"
PLAYLISTS = {
    "concat": f"ffconcat version 1.0\nfile {SECRET}\n",
    "hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{SECRET}\n#EXT-X-ENDLIST\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period><AdaptationSet>'
    f"<Representation id='1'><BaseURL>{SECRET}</BaseURL></Representation></AdaptationSet></Period></MPD>",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\n",
    "imf": f"<AssetMap><Path>{SECRET}</Path></AssetMap>",
    "realtext": f'<window src="{SECRET}">',
}


@pytest.mark.parametrize("kind", PLAYLISTS)
def test_a_file_that_names_others_opens_none(tmp_path, film, kind):
    film.write(tmp_path / SECRET, TIMES, 1 / 25)
    (tmp_path / "list.mp4").write_text(PLAYLISTS[kind])
    for read in (
        lambda path: list(iter_frames(path)),
        lambda path: read_chosen(path, range),
        lambda path: list(iter_sparse(str(path), range, short_side=16)),
    ):
        with pytest.raises(DecodeError, match="not a readable video"):
            read(tmp_path / "list.mp4")


@pytest.mark.parametrize(
    "name", ["http:film.mp4", "concat:a.mp4|b.mp4", "film%03d.mp4", "-", "caf\udce9.mp4", "file:x"]
)
def test_names_are_only_names(tmp_path, film, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    film.write(Path("plain.mp4"), TIMES, 1 / 25).rename(name)
    assert film.numbers([frame for _, frame in iter_frames(name)]) == list(range(NUM_FRAMES))


def test_a_codec_that_is_not_named_does_not_run(tmp_path, film):
    path = film.write(tmp_path / "film.avi", TIMES, 1 / 25, codec="asv1")
    with pytest.raises(DecodeError, match="codec asv1 is not supported"):
        list(iter_frames(path))


def write_cover(path: Path, film, *, is_video: bool) -> Path:
    """An mp4 or m4a whose stream 0 is its cover: the box of the cover moves before that of the track."""
    with av.open(str(path), "w", format="mp4") as container:
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt, cover.disposition = (
            64,
            64,
            "yuvj420p",
            Disposition.attached_pic,
        )
        track = (
            container.add_stream("libx264", rate=25) if is_video else container.add_stream("aac", rate=44100)
        )
        if is_video:
            track.width, track.height, track.pix_fmt = film.WIDTH, film.HEIGHT, "yuv420p"
            frames = [
                av.VideoFrame.from_ndarray(film.picture(number), format="rgb24")
                for number in range(NUM_FRAMES)
            ]
        else:
            frames = [
                av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            ]
            frames[0].sample_rate = 44100
        square = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 200, np.uint8), format="rgb24")
        container.mux([*cover.encode(square), *cover.encode(None)])
        container.mux([packet for frame in [*frames, None] for packet in track.encode(frame)])
    data = path.read_bytes()
    at = data.index(b"moov") - 4
    (size,) = struct.unpack_from(">I", data, at)
    children, place = [], at + 8
    while place < at + size:
        (length,) = struct.unpack_from(">I", data, place)
        children.append(data[place : place + length])
        place += length
    children.sort(key=lambda box: {b"mvhd": 0, b"udta": 1}.get(box[4:8], 2))
    path.write_bytes(data[: at + 8] + b"".join(children) + data[at + size :])
    with av.open(str(path)) as container:
        assert Disposition.attached_pic in Disposition(container.streams[0].disposition)
    return path


def test_a_cover_is_not_the_video(tmp_path, film):
    path = write_cover(tmp_path / "film.mp4", film, is_video=True)
    assert film.numbers([frame for _, frame in iter_frames(path)]) == list(range(NUM_FRAMES))
    assert film.numbers(read_chosen(path, lambda total: range(1, total)).frames) == [1, 2, 3, 4, 5]
    sparse = iter_sparse(str(path), lambda total: range(1, total), short_side=film.HEIGHT)
    assert film.numbers([frame.pixels for frame in sparse]) == [1, 2, 3, 4, 5]
    with pytest.raises(DecodeError, match="no video stream"):
        list(iter_frames(write_cover(tmp_path / "song.m4a", film, is_video=False)))


def test_titles_are_not_decoded(tmp_path, film):
    path = film.write(tmp_path / "film.avi", TIMES, 1 / 25, codec="mpeg4", title="Gruen XX")
    data = path.read_bytes()
    assert b"Gruen XX" in data
    path.write_bytes(data.replace(b"Gruen XX", b"Gr\xfcn \xe9\x8c\xff"))
    assert film.numbers([frame for _, frame in iter_frames(path)]) == list(range(NUM_FRAMES))


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        ({"max_pixels": 6143}, "too large: 64 × 96 pixels, more than max_pixels 6143"),
        ({"max_frames": 3}, "too long: more frames than max_frames 3"),
        ({"max_packets": 3}, "too long: more packets than max_packets 3"),
        ({"max_seconds": 0.1}, r"too long: 0\.[12] s, more than max_seconds 0\.1"),
    ],
)
def test_each_limit_has_its_error(tmp_path, film, limit, message):
    path = film.write(tmp_path / "film.mp4", TIMES, 1 / 25)
    limits = ReadLimits(**limit)
    for read in (
        lambda: list(iter_frames(path, limits=limits)),
        lambda: read_chosen(path, range, limits=limits),
        lambda: list(iter_sparse(str(path), range, short_side=16, limits=limits)),
    ):
        with pytest.raises(DecodeError, match=message):
            read()
    assert len(list(iter_frames(path, limits=ReadLimits.strict()))) == NUM_FRAMES


def test_what_a_picture_becomes_is_limited_too(tmp_path, film):
    wide = film.write(tmp_path / "film.mp4", TIMES, 1 / 25, aspect=Fraction(2))
    with pytest.raises(DecodeError, match="too large: 64 × 96 pixels"):
        list(iter_frames(wide, limits=ReadLimits(max_pixels=6000)))
    with pytest.raises(DecodeError, match="too large: 640 × 960 pixels"):
        list(iter_frames(wide, short_side=640, limits=ReadLimits(max_pixels=10000)))
    assert ReadLimits.strict().max_seconds < ReadLimits().max_seconds
    with pytest.raises(UserError, match="max_frames 0 is not valid"):
        ReadLimits(max_frames=0)

"""One video is the same whatever reads it: its frames, upright, with square pixels, at the seconds it is made of."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from adafocus_jax.data.batches.sources import VideoSource
from adafocus_jax.data.datasets.annotations import Entry
from adafocus_jax.data.datasets.entries import ReadOptions, iter_chosen, iter_entry
from adafocus_jax.data.media.video import iter_frames, read_chosen
from adafocus_jax.data.prepare.prepare import prepare
from adafocus_jax.data.records.reader import open_records

STEP = 0.04
NUM_FRAMES = 12

# Suffix, encoder, pixel format; whether the container keeps pixel ratios and turns, and how long the last frame lasts.
FILES = {
    "mp4 h264": (".mp4", "libx264", "yuv420p", "aspect turn held"),
    "mp4 mpeg4": (".mp4", "mpeg4", "yuv420p", "aspect turn held"),
    "mov mjpeg": (".mov", "mjpeg", "yuvj420p", "aspect turn held"),
    "mov prores": (".mov", "prores_ks", "yuv422p10le", "aspect turn held"),
    "mkv h264": (".mkv", "libx264", "yuv420p", "aspect held"),
    "mkv ffv1": (".mkv", "ffv1", "yuv420p", "held"),
    "webm vp9": (".webm", "libvpx-vp9", "yuv420p", "held"),
    "avi mpeg4": (".avi", "mpeg4", "yuv420p", "aspect"),
    "ts h264": (".ts", "libx264", "yuv420p", "aspect joined wrapped"),
    "flv h263": (".flv", "flv", "yuv420p", ""),
    "wmv wmv2": (".wmv", "wmv2", "yuv420p", "aspect"),
    "gif": (".gif", "gif", "rgb8", "held"),
}
SHAPES = ("constant", "variable", "held", "joined", "wrapped")
WRAP_SEC = 2**33 / 90000
"""Where the clock of a transport stream starts anew."""


def timing(shape: str) -> tuple[list[float], float]:
    """When the frames are shown, and for how long the last one is."""
    half = NUM_FRAMES // 2
    if shape == "variable":
        slow = [(half + 3 * late) * STEP for late in range(half)]
        return [early * STEP for early in range(half)] + slow, 3 * STEP
    return [place * STEP for place in range(NUM_FRAMES)], 1.5 if shape == "held" else STEP


def write(film, path, kind: str, shape: str, turn: str, aspect: Fraction):
    """The file, and the seconds of its frames."""
    suffix, codec, pixels, _ = FILES[kind]
    path = path.with_suffix(suffix)
    times, last_sec = timing(shape)
    options = {"codec": codec, "pixels": pixels, "aspect": aspect, "matrix": film.MATRICES[turn]}
    if codec == "libx264":
        # Without B-frames where the last packet is to be the last frame.
        options |= {"preset": "ultrafast"} | (
            {"bf": "0"} if shape == "held" else {"bf": "2", "b-pyramid": "none"}
        )
    if shape == "wrapped":
        options["header"] = {"output_ts_offset": f"{WRAP_SEC - 5 * STEP:.6f}"}
    if shape == "joined":
        half = NUM_FRAMES // 2
        parts = [path.with_name(f"{name}{suffix}") for name in ("first", "second")]
        for part, first in zip(parts, (0, half), strict=True):
            film.write(part, times[:half], STEP, first=first, **options)
        path.write_bytes(b"".join(part.read_bytes() for part in parts))
    else:
        film.write(path, times, last_sec, **options)
    return path, times


@st.composite
def films(draw):
    kind = draw(st.sampled_from(sorted(FILES)))
    can = FILES[kind][3].split()
    shapes = [shape for shape in SHAPES if shape in ("constant", "variable", *can)]
    turns = st.sampled_from(range(8)) if "turn" in can else st.just(0)
    aspects = (
        st.sampled_from((Fraction(1), Fraction(2), Fraction(1, 2)))
        if "aspect" in can
        else st.just(Fraction(1))
    )
    return kind, draw(st.sampled_from(shapes)), draw(turns), draw(aspects)


@given(film_of=films(), wanted=st.sets(st.integers(0, NUM_FRAMES - 1), min_size=1))
@example(film_of=("mp4 h264", "held", 4, Fraction(2)), wanted={0, 5, 11})
@example(film_of=("ts h264", "joined", 0, Fraction(1)), wanted={0, 7})
@example(film_of=("ts h264", "wrapped", 0, Fraction(1)), wanted={3, 11})
@example(film_of=("gif", "held", 0, Fraction(1)), wanted={11})
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_reader_tells_the_truth(tmp_path, film, film_of, wanted):
    kind, shape, turn, aspect = film_of
    path, times = write(film, tmp_path / "film", kind, shape, list(film.MATRICES)[turn], aspect)
    wanted, entry = sorted(wanted), Entry(str(path), (0,), "film")
    whole = list(iter_frames(path))
    assert film.numbers([image for _, image in whole]) == list(range(NUM_FRAMES))
    assert all(film.is_upright(image) for _, image in whole)
    assert {image.shape for _, image in whole} == {(film.HEIGHT, film.WIDTH, 3)}
    np.testing.assert_allclose([time for time, _ in whole], times, atol=2e-3)

    readers = {
        "read_chosen": lambda: read_chosen(path, lambda _: wanted, short_side=film.HEIGHT),
        "iter_chosen": lambda: iter_chosen(
            entry, lambda _: wanted, short_side=film.HEIGHT, options=ReadOptions()
        ),
    }
    chosen = readers["read_chosen"]()
    for time, image, number in zip(chosen.times_sec, chosen.frames, wanted, strict=True):
        assert time == whole[number][0]
        np.testing.assert_array_equal(image, whole[number][1])
    for frame, number in zip(readers["iter_chosen"](), wanted, strict=True):
        assert (frame.number, frame.time_sec) == (number, pytest.approx(whole[number][0], abs=1e-6))
        np.testing.assert_array_equal(frame.pixels, whole[number][1])
    thinned = list(iter_entry(entry, short_side=None, max_fps=1 / (5 * STEP), options=ReadOptions()))
    first_of_slot = {
        int(time / (5 * STEP) + 0.1): number for number, time in reversed(list(enumerate(times)))
    }
    assert film.numbers([image for _, image in thinned]) == sorted(first_of_slot.values())


def test_records_hold_the_truth_and_its_times(tmp_path, film):
    """``prepare``, and training straight from the folder, of every kind of file and timing at once."""
    kinds = {
        "mp4 h264": "held",
        "mov mjpeg": "variable",
        "ts h264": "joined",
        "gif": "held",
        "webm vp9": "constant",
    }
    entries, expected = [], {}
    (tmp_path / "videos" / "class").mkdir(parents=True)
    for turn, (kind, shape) in enumerate(kinds.items()):
        turn = list(film.MATRICES)[4 * turn] if kind == "mp4 h264" else "upright"
        path, times = write(
            film, tmp_path / "videos" / "class" / kind.replace(" ", "-"), kind, shape, turn, Fraction(1)
        )
        entries.append(Entry(str(path), (0,), f"class/{path.name}"))
        expected[f"class/{path.name}"] = times
    for part in (tmp_path / "videos" / "class").glob("*.ts"):
        if part.stem in ("first", "second"):
            part.unlink()
    prepare(tmp_path / "videos", tmp_path / "records", size=film.HEIGHT, fps=None, workers=0)
    for source in (open_records(tmp_path / "records", "train"), VideoSource(entries, ("class",))):
        videos = [source[index] for index in range(len(source))]
        assert {video.name for video in videos} == set(expected)
        for video in videos:
            frames = [
                (frame.time_sec, film.number(frame.pixels), film.is_upright(frame.pixels))
                for frame in video.read(range)
            ]
            times, seen, upright = zip(*frames, strict=True)
            assert seen == tuple(range(NUM_FRAMES))
            assert all(upright)
            np.testing.assert_allclose(times, expected[video.name], atol=2e-3)

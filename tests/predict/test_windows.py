"""Windows of long videos: which there are, and that each is predicted as the video that it is a part of."""

import csv

import numpy as np
import pytest

from adafocus_jax.cli.main import main
from adafocus_jax.data.batches.clips import ClipSpec
from adafocus_jax.data.batches.single import read_clip
from adafocus_jax.data.batches.sources import ArrayVideo
from adafocus_jax.errors import UserError
from adafocus_jax.predict.predictor import Predictor
from adafocus_jax.predict.windows import iter_windows
from adafocus_jax.visualize.timeline import timeline

SPEC = ClipSpec(num_candidates=4, image_size=16, resize=16, num_glance=2)


def frames_at(times):
    return ((time, np.full((16, 16, 3), number, np.uint8)) for number, time in enumerate(times))


def spans(times, window, stride):
    found = iter_windows("long.mp4", frames_at(times), SPEC, window, stride)
    return [(w.start_sec, w.end_sec, w.num_frames) for w in found]


def test_windows_go_up_to_the_first_that_reaches_the_end():
    times = np.arange(20) / 10  # 2 s
    assert spans(times, 1.0, 1.0) == [(0, 1, 10), (1, 2, 10)]
    assert spans(times, 1.0, 0.5) == [(0, 1, 10), (0.5, 1.5, 10), (1, 2, 10)]
    assert spans(times, 0.5, 1.0) == [(0, 0.5, 5), (1, 1.5, 5)], "what lies between is left out"
    assert spans(times, 9.0, 3.0) == [(0, 9, 20)]
    assert spans([0.0, 0.1, 3.5], 1.0, 1.0) == [(0, 1, 2), (1, 2, 0), (2, 3, 0), (3, 4, 1)]
    milliseconds = np.round(np.arange(61) / 29.97, 3)
    assert [count for *_, count in spans(milliseconds, 1.001, 1.001)] == [30, 30, 1]


def test_a_window_is_cut_like_the_video_that_it_is():
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (20, 256, 300, 3), np.uint8)
    stamped = ((number / 10, frame) for number, frame in enumerate(frames))
    _, second, _ = iter_windows("x", stamped, SPEC, 1.0, 0.5)
    alone, part = read_clip(ArrayVideo(frames[5:15], fps=10), SPEC), read_clip(second, SPEC)
    np.testing.assert_array_equal(part.frames, alone.frames)
    np.testing.assert_array_equal(part.glance, alone.glance)
    np.testing.assert_allclose(part.times_sec, alone.times_sec + 0.5)
    assert len(second.frames) <= 6, "only what a clip is made of is held"


def test_predictions_over_time(run, videos, one_of_each, tmp_path):
    predictor = Predictor.load(run)
    path = videos / "walk" / "2.mp4"  # 2 s at 10 fps
    given = [path, "nowhere.mp4", one_of_each[2]]  # the array has a frame per second: one window, as long
    found = list(predictor.windows(given, 1.0, 0.5))
    (whole,), at = predictor(path), [one.segment_sec for one in found]
    assert at[:4] == [(0, 1), (0.5, 1.5), (1, 2), None]
    assert at[4:] == [(0.5 * k, 0.5 * k + 1) for k in range(38)]
    assert "no such video: nowhere.mp4" in found[3].error
    assert found[1].candidate_numbers.min() >= 5
    np.testing.assert_allclose(found[1].times_sec, found[1].frame_numbers / 10)
    (all_of_it,) = predictor.windows(path, 5.0)
    np.testing.assert_allclose(all_of_it.exit_logits, whole.exit_logits, atol=1e-4)
    np.testing.assert_array_equal(all_of_it.frame_numbers, whole.frame_numbers)
    assert timeline(found[:4]).shape == (640, 960, 3)
    with pytest.raises(UserError, match="no window of the video has a prediction"):
        timeline(found[3:4])
    with pytest.raises(UserError, match="stride_sec=0: give more than 0 seconds"):
        predictor.windows(path, 1.0, 0)


def test_the_command_writes_rows_and_a_timeline(run, videos, tmp_path, capsys):
    paths = [str(videos / "walk" / "2.mp4"), str(videos / "walk" / "3.mp4")]
    words = [
        "--window",
        "1",
        "--stride",
        "0.5",
        "--csv",
        str(tmp_path / "rows.csv"),
        "--draw",
        str(tmp_path / "out"),
    ]
    assert main(["predict", "--checkpoint", str(run), *paths, "nowhere.mp4", *words, "--top", "2"]) == 1
    with open(tmp_path / "rows.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["video"], row["start"], row["end"]) for row in rows[:3]] == [
        (paths[0], start, end) for start, end in (("0.0", "1.0"), ("0.5", "1.5"), ("1.0", "2.0"))
    ]
    assert len(rows) == 7
    assert "no such video" in rows[6]["error"]
    assert float(rows[0]["probability_1"]) >= float(rows[0]["probability_2"]) > 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["2-timeline.png", "3-timeline.png"]
    assert "0.50 to 1.50 s" in capsys.readouterr().out

from types import MappingProxyType

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from adafocus_jax.data.batches.clips import ClipSpec, ClipWriter, warn_of_flips
from adafocus_jax.data.batches.cuts import apply_cut, reduced
from adafocus_jax.data.batches.pipeline import eval_batches, train_batches
from adafocus_jax.data.batches.sampling import segment_indices
from adafocus_jax.data.batches.sources import open_data
from adafocus_jax.data.datasets.mirrored import mirrored_labels
from adafocus_jax.data.prepare.prepare import prepare
from adafocus_jax.data.records.reader import Record
from adafocus_jax.data.records.schema import encode_frame
from adafocus_jax.errors import UserError

CLASSES = ("moving left", "moving right", "Left turn", "RIGHT turn", "leftover", "left alone")
MIRRORED = (1, 0, 3, 2, 4, 5)


class Videos:
    """Videos of one frame whose left half is bright; video i has label i, and one more has the labels 0 and 4."""

    classes, max_labels = CLASSES, 2

    def __len__(self) -> int:
        return 7

    def __getitem__(self, index: int) -> Record:
        frame = np.zeros((16, 16, 3), np.uint8)
        frame[:, :8] = 200
        return Record(
            [encode_frame(frame, 95)], (index,) if index < 6 else (0, 4), f"{index}", 1.0, f"video {index}"
        )


def test_left_and_right_change_places_where_both_are_classes():
    assert mirrored_labels(CLASSES) == MIRRORED


def test_a_mirrored_clip_has_mirrored_labels():
    spec = ClipSpec(1, 16, scales=(1.0,), flip_labels=MIRRORED)
    seen = set()
    for batch in train_batches(Videos(), spec, batch_size=7, seed=0, num_steps=12, num_threads=0):
        for row, index in enumerate(batch["index"]):
            flipped = bool(batch["frames"][row, 0, 8, 15, 0] > 100)
            own = Videos()[index].labels
            expected = [MIRRORED[label] for label in own] if flipped else list(own)
            assert batch["labels"][row].tolist() == [*expected, -1][:2]
            assert batch["label"][row] in expected
            seen.add((index, flipped))
    assert len(seen) == 14
    (batch,) = eval_batches(Videos(), ClipSpec(1, 16, flip_labels=MIRRORED), batch_size=7, num_threads=0)
    assert batch["label"].tolist() == [0, 1, 2, 3, 4, 5, 0]


def test_flip_labels_without_flip():
    with pytest.raises(UserError, match="flip_labels is for mirrored clips and flip is False"):
        ClipSpec(1, 16, flip=False, flip_labels=(0,))


@given(
    height=st.integers(1, 300),
    width=st.integers(1, 300),
    size=st.integers(1, 64),
    num_frames=st.integers(1, 5),
    counts=st.lists(st.integers(1, 7), min_size=1, max_size=2),
    seed=st.none() | st.integers(0, 9),
)
@settings(max_examples=60)
def test_any_video_fills_any_clip(height, width, size, num_frames, counts, seed):
    """Flat grey frames: every pixel of the clip has the level of the frame that the sampling names."""
    jpegs = [encode_frame(np.full((height, width, 3), 40 * n, np.uint8), 95) for n in range(num_frames)]
    clips = [np.full((count, size, size, 3), 255, np.uint8) for count in counts]
    rng = None if seed is None else np.random.default_rng(seed)
    writer = ClipWriter(ClipSpec(counts[0], size), clips, rng)
    for frame in Record(jpegs, (0,), "v", 1.0, "v").read(writer.choose, writer.reduce):
        writer.write(frame)
    draws = None if seed is None else np.random.default_rng(seed)
    for clip, count in zip(clips, counts, strict=True):
        levels = 40 * segment_indices(num_frames, count, draws)
        assert abs(clip.astype(int) - levels[:, None, None, None]).max() <= 2


@given(
    height=st.integers(8, 200),
    width=st.integers(8, 200),
    size=st.integers(2, 40),
    seed=st.none() | st.integers(0, 9),
)
@settings(max_examples=60)
def test_reduced_frames_show_the_same_scene(height, width, size, seed):
    y, x = np.mgrid[:height, :width].astype(np.float32)
    frame = np.stack([255 * y / height, 255 * x / width, 128 + 0 * x], axis=-1).astype(np.uint8)
    rng = None if seed is None else np.random.default_rng(seed)
    cut = ClipSpec(1, size).cut(height, width, rng)
    factor, small_cut = reduced(cut, height, width, size)
    small = cv2.resize(frame, (-(-width // factor), -(-height // factor)), interpolation=cv2.INTER_AREA)
    clips = np.zeros((2, size, size, 3), np.uint8)
    apply_cut(frame, cut, clips[0])
    apply_cut(small, small_cut, clips[1])
    # A pixel of the reduced frame, in levels of the ramps, and rounding.
    tolerance = 2 + 2 * 255 * factor / min(height, width)
    assert abs(clips[0].astype(int) - clips[1]).max() <= tolerance
    assert factor == 1 or factor * size <= min(height, width)


def test_a_reduced_jpeg_is_closer_to_the_ideal_than_averaging_the_whole_one():
    texture = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    frame = cv2.resize(texture, (320, 240), interpolation=cv2.INTER_CUBIC)
    record = Record([encode_frame(frame, 95)], (0,), "v", 1.0, "v")
    clips = np.zeros((2, 1, 112, 112, 3), np.uint8)
    writer = ClipWriter(ClipSpec(1, 112, resize=112), [clips[0]], None)
    (half,) = record.read(writer.choose, writer.reduce)
    assert half.pixels.shape == (120, 160, 3)
    writer.write(half)
    apply_cut(record.frame(0), writer.cut, clips[1, 0])
    size = (writer.cut.width, writer.cut.height)
    ideal = np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS)).astype(float)
    left = writer.cut.left
    reduced_error, whole_error = np.square(clips[:, 0] - ideal[:, left : left + 112]).mean(axis=(1, 2, 3))
    assert reduced_error < whole_error


@pytest.mark.parametrize("relabel", [False, True])
def test_mirrored_clips_of_data_whose_sides_have_meaning_are_warned_of(relabel, caplog):
    def warnings(flip=True, flip_labels=None, traits=MappingProxyType({})) -> list[str]:
        caplog.clear()
        warn_of_flips(ClipSpec(4, 8, flip=flip, flip_labels=flip_labels), traits)
        return caplog.messages

    assert not warnings()
    assert not warnings(flip=True, traits={"flip": True, "relabel": relabel})
    assert not warnings(flip=False, traits={"flip": False, "relabel": relabel})
    (warning,) = warnings(traits={"flip": False, "relabel": relabel})
    assert "set data.flip=False" in warning
    assert ("data.flip_labels=True" in warning) == relabel
    assert bool(warnings(flip_labels=(1, 0), traits={"flip": False, "relabel": relabel})) != relabel


@pytest.mark.parametrize(
    ("classes", "flip_labels", "words"),
    [
        (("stop", "go"), None, []),
        (
            ("swipe_left", "swipe_right"),
            None,
            ["2 classes", "'swipe_left'", "data.flip=False", "data.flip_labels=True"],
        ),
        (("swipe_left", "swipe_right"), (1, 0), []),
        (
            ("swipe_left", "swipe_right", "right hook"),
            (1, 0, 2),
            ["'right hook' has no counterpart", "data.flip=False"],
        ),
    ],
)
def test_class_names_tell_that_sides_have_meaning(classes, flip_labels, words, caplog):
    warn_of_flips(ClipSpec(4, 8, flip_labels=flip_labels), {"flip": True, "relabel": False}, classes)
    assert len(caplog.messages) == bool(words)
    assert all(word in caplog.text for word in words)
    caplog.clear()
    warn_of_flips(ClipSpec(4, 8, flip=False), {}, classes)
    assert not caplog.messages


def test_labels_that_are_not_exchanged_are_refused():
    with pytest.raises(UserError, match=r"no two classes differ in left and right alone.*'stop'"):
        warn_of_flips(ClipSpec(4, 8, flip_labels=(0, 1)), {}, ("stop", "go"))


def test_records_know_what_their_data_set_is_like(jester, records, tmp_path):
    prepare(
        "jester", tmp_path, videos=jester / "videos", annotations=jester / "lists", workers=0, max_missing=1
    )
    assert open_data(tmp_path, "train").traits == {"metric": "top1", "flip": False, "relabel": False}
    assert open_data(records, "train").traits["flip"] is True

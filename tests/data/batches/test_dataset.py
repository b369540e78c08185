"""Clips as a grain data set: grain's transformations and checks work on it, a batch is a function of its place."""

import hashlib
import importlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import ClassVar

import grain
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adafocus_jax.config import load_config, training
from adafocus_jax.data.batches import transforms as registry
from adafocus_jax.data.batches.clips import ClipSpec
from adafocus_jax.data.batches.dataset import SKIPPED, BatchMemory, clip_dataset
from adafocus_jax.data.batches.pipeline import train_batches
from adafocus_jax.data.batches.transforms import apply_transforms, make_transforms, register_transform
from adafocus_jax.data.media.frames import Frame
from adafocus_jax.data.records.reader import open_records
from adafocus_jax.data.records.schema import RecordError
from adafocus_jax.errors import UserError

CUSTOM = f"{Path(__file__).parents[3] / 'configs' / 'custom.py'}:tiny"
SIDE = 8
SPEC = ClipSpec(3, SIDE, scales=(1.0,), num_glance=2)


class Ruler:
    """50 frames of one size, so that nothing is resized. Frame t has level t in its left half, 100 + t in its right."""

    def __init__(self, index: int) -> None:
        self.labels = (index % 3, 2) if index % 5 == 0 and index % 3 < 2 else (index % 3,)
        self.name = f"v{index}"

    def read(self, choose, reduce) -> Iterator[Frame]:
        for position, number in enumerate(choose(50)):
            if not position:
                reduce(SIDE, SIDE)
            pixels = np.full((SIDE, SIDE, 3), number, np.uint8)
            pixels[:, SIDE // 2 :] += 100
            yield Frame(number, float(number), pixels)


class Rulers:
    """Any number of such videos; those of ``bad`` do not read."""

    classes, max_labels, traits = ("a", "b", "c"), 2, {}

    def __init__(self, count: int, bad: tuple[int, ...] = ()) -> None:
        self.count, self.bad = count, bad

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Ruler:
        if index in self.bad:
            raise RecordError(f"v{index} does not read")
        return Ruler(index)


class Darken(grain.transforms.RandomMap):
    """Subtracts a number of its own from each clip, in place, and notes it as the label."""

    def random_map(self, clip, rng):
        amount = rng.integers(1, 50)
        clip["frames"] -= amount.astype(np.uint8)
        clip["label"][...] = amount
        return clip


class Invert(grain.transforms.Map):
    """Replaces the frames."""

    def map(self, clip):
        return {**clip, "frames": 255 - clip["frames"]}


def train(source, steps, *, seed=7, batch_size=4, spec=SPEC, **options) -> list[dict[str, np.ndarray]]:
    options = {"num_threads": 0, **options}
    return list(train_batches(source, spec, batch_size=batch_size, seed=seed, num_steps=steps, **options))


def assert_same(batches, expected) -> None:
    for got, want in zip(batches, expected, strict=True):
        assert got.keys() == want.keys()
        for name in want:
            np.testing.assert_array_equal(got[name], want[name], err_msg=name)


@pytest.mark.parametrize(
    ("count", "steps", "first", "digest"),
    [
        (11, 9, [8, 1, 9, 6, 3, 4, 0, 5, 7, 2, 10, 6], "3389cbac723c639a"),
        (1500, 40, [661, 759, 214, 871, 246, 525, 1318, 474, 1262, 496, 713, 1058], "8d87169ac84cd43b"),
    ],
)
def test_a_run_of_version_0_1_resumes_with_the_batches_it_would_have_had(count, steps, first, digest):
    """Order, frames, labels and flips, as version 0.1 made them: few records and many are shuffled in two ways."""
    batches = train(Rulers(count), steps)
    assert np.concatenate([batch["index"] for batch in batches])[:12].tolist() == first
    found = hashlib.sha256()
    for batch in batches:
        for name in ("frames", "glance", "label", "labels", "mask", "index"):
            found.update(np.ascontiguousarray(batch[name]).tobytes())
    assert found.hexdigest()[:16] == digest


def test_a_clip_is_a_dict_of_arrays_at_its_place_of_an_endless_sequence():
    clips = clip_dataset(Rulers(11), SPEC, 7)
    assert isinstance(clips, grain.MapDataset)
    assert len(clips) == 11
    forms = {name: (array.shape, array.dtype.name) for name, array in clips[0].items()}
    assert forms == {
        "frames": ((3, 8, 8, 3), "uint8"),
        "glance": ((2, 8, 8, 3), "uint8"),
        "label": ((), "int32"),
        "labels": ((2,), "int32"),
        "mask": ((), "bool"),
        "index": ((), "int32"),
    }
    expected = np.concatenate([batch["index"] for batch in train(Rulers(11), 8)])
    assert [int(clips[place]["index"]) for place in range(32)] == expected.tolist()


def test_grains_own_batches_are_those_of_training():
    """Nothing of ours after ``clip_dataset``."""
    for place, want in enumerate(train(Rulers(11), 9)):
        got = clip_dataset(Rulers(11), SPEC, 7).repeat().batch(4, drop_remainder=True)[place]
        assert_same([got], [want])


@pytest.mark.parametrize("transforms", [(), (Darken(), Invert())])
def test_grains_checks_of_resuming(transforms):
    memory = BatchMemory(4)
    clips = apply_transforms(clip_dataset(Rulers(11), SPEC, 7, memory=memory), transforms)
    batches = clips.repeat(2).batch(4, batch_fn=memory.batch)
    for options in (grain.ReadOptions(num_threads=0, prefetch_buffer_size=0), grain.ReadOptions(2, 2)):
        grain.experimental.assert_equal_output_after_checkpoint(batches.to_iter_dataset(options))


def test_grains_check_of_resuming_with_worker_processes(records):
    batches = clip_dataset(open_records(records, "train"), ClipSpec(2, 8), 0).batch(6)
    dataset = batches.to_iter_dataset(grain.ReadOptions(1, 1)).mp_prefetch(grain.MultiprocessingOptions(1))
    grain.experimental.assert_equal_output_after_checkpoint(dataset)


@given(
    start=st.integers(0, 9),
    length=st.integers(1, 4),
    processes=st.sampled_from([1, 2, 4]),
    threads=st.sampled_from([0, 1, 3]),
    seed=st.integers(0, 2**40),
)
@settings(max_examples=40)
def test_transformed_batches_depend_on_seed_and_step_alone(start, length, processes, threads, seed):
    options = {"transforms": (Darken(), Invert()), "seed": seed}
    expected = train(Rulers(11), start + length, **options)[start:]
    parts = [
        train(
            Rulers(11),
            start + length,
            start_step=start,
            process_index=index,
            process_count=processes,
            num_threads=threads,
            **options,
        )
        for index in range(processes)
    ]
    got = [
        {name: np.concatenate([b[name] for b in group]) for name in group[0]}
        for group in zip(*parts, strict=True)
    ]
    assert_same(got, expected)


def test_a_transform_sees_single_clips_and_draws_anew_in_every_epoch():
    plain, dark = (train(Rulers(11), 11, transforms=transforms) for transforms in ((), (Darken(),)))
    for want, got in zip(plain, dark, strict=True):
        amounts = got["label"].astype(np.uint8)[:, None, None, None, None]
        np.testing.assert_array_equal(got["frames"], want["frames"] - amounts)
        np.testing.assert_array_equal(got["glance"], want["glance"])
    drawn = np.concatenate([batch["label"] for batch in dark])
    assert len(set(drawn.tolist())) > 20


def test_two_random_transforms_draw_apart():
    (batch,) = train(Rulers(11), 1, batch_size=11, transforms=(Darken(), Darken()))
    (once,) = train(Rulers(11), 1, batch_size=11, transforms=(Darken(),))
    assert (batch["label"] != once["label"]).any()


def test_a_batch_is_written_in_place_and_only_what_a_transform_replaced_is_copied():
    for transforms, kept in (
        ((), {"frames", "glance", "label"}),
        ((Darken(), Invert()), {"glance", "label"}),
    ):
        memory = BatchMemory(4)
        clips = apply_transforms(clip_dataset(Rulers(11), SPEC, 7, memory=memory), transforms)
        for _ in range(2):
            rows = [clips[place] for place in range(4)]
            batch = memory.batch(rows)
            for name in ("frames", "glance", "label"):
                shared = all(np.shares_memory(batch[name], row[name]) for row in rows)
                assert shared == (name in kept), name
                np.testing.assert_array_equal(batch[name], np.stack([row[name] for row in rows]))


def test_clips_that_did_not_become_a_batch_do_no_harm():
    """As after an error, or where somebody looks at a clip alone."""
    memory = BatchMemory(4)
    clips = clip_dataset(Rulers(11), SPEC, 7, memory=memory)
    seen = [clips[place] for place in range(6)]
    copies = [{name: array.copy() for name, array in clip.items()} for clip in seen]
    batches = [memory.batch([clips[4 * step + row] for row in range(4)]) for step in range(5)]
    assert_same(batches, train(Rulers(11), 5))
    assert_same(seen, copies)


def test_a_second_source_is_mixed_in():
    one, other = Rulers(11), Rulers(6)
    other.max_labels = 1
    clips = [clip_dataset(source, SPEC, seed, max_labels=2) for seed, source in enumerate((one, other))]
    mixed = grain.MapDataset.mix([clip.repeat() for clip in clips], [2, 1])
    memory = BatchMemory(6)
    batch = mixed.batch(6, drop_remainder=True, batch_fn=memory.batch)[3]
    assert batch["frames"].shape == (6, 3, SIDE, SIDE, 3)
    alone = [clip_dataset(source, SPEC, seed, max_labels=2) for seed, source in enumerate((one, other))]
    expected = [int(alone[0][place]["index"]) for place in range(12, 16)] + [
        int(alone[1][place]["index"]) for place in range(6, 8)
    ]
    assert sorted(batch["index"].tolist()) == sorted(expected)
    unequal = [clip_dataset(one, SPEC, 0), clip_dataset(other, SPEC, 1, max_labels=3)]
    with pytest.raises(UserError, match=r"clips of one batch differ in 'labels': .*same shape and dtype"):
        grain.MapDataset.mix(unequal).batch(4, batch_fn=memory.batch)[0]
    with pytest.raises(UserError, match="max_labels 1 is not valid: give 2 or more"):
        clip_dataset(one, SPEC, 0, max_labels=1)


def test_skipped_records_are_told_beside_the_batch():
    skip = {"on_bad_record": "skip", "max_bad_frac": 0.5}
    memory = BatchMemory(11)
    clips = clip_dataset(Rulers(11, bad=(4, 9)), SPEC, 7, memory=memory, **skip)
    batch = clips.batch(11, batch_fn=memory.batch)[0]
    assert {index for index, _ in batch[SKIPPED]} == {4, 9}
    assert not {4, 9} & set(batch["index"].tolist())
    for given_up in ({}, {**skip, "max_bad_frac": 0.05}):
        with pytest.raises(RecordError, match=r"v\d does not read"):
            list(clip_dataset(Rulers(11, bad=(4, 6, 9, 10)), SPEC, 7, **given_up))


class Wrong(grain.transforms.Map):
    """Does to a clip what it must not do."""

    results: ClassVar = {
        "frames": lambda clip: {**clip, "frames": clip["frames"].astype(np.float32)},
        "glance": lambda clip: {**clip, "glance": clip["glance"][:1]},
        "more": lambda clip: {**clip, "more": np.zeros(2)},
        "label": lambda clip: {name: clip[name] for name in clip if name != "label"},
        "what it returns": lambda clip: None,
    }

    def __init__(self, what: str) -> None:
        self.what = what

    def map(self, clip):
        return self.results[self.what](clip)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("frames", r"'frames' of a clip from uint8 \[3, 8, 8, 3\] into float32 \[3, 8, 8, 3\]"),
        ("glance", r"'glance' of a clip from uint8 \[2, 8, 8, 3\] into uint8 \[1, 8, 8, 3\]"),
        ("more", r"'more' of a clip from absent into float64 \[2\]"),
        ("label", "'label' of a clip from int32 .* into absent"),
        ("what it returns", "returns NoneType, not a clip"),
    ],
)
def test_what_a_transform_must_not_do_is_named(what, message):
    with pytest.raises(UserError, match=rf"transform Wrong .*{message}"):
        train(Rulers(11), 1, transforms=(Wrong(what),))


PLUGIN = """
import grain
import numpy as np
from adafocus_jax.data.batches.transforms import register_transform


@register_transform("noise-of-a-plugin")
class Noise(grain.transforms.RandomMap):
    def random_map(self, clip, rng):
        clip["frames"] ^= rng.integers(0, 2, clip["frames"].shape, dtype=np.uint8)
        return clip
"""


def test_a_plugin_registers_a_transform_and_worker_processes_find_it(records, tmp_path, monkeypatch):
    (tmp_path / "noise_plugin_of_a_test.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(registry, "TRANSFORMS", {})
    importlib.import_module("noise_plugin_of_a_test")
    transforms = make_transforms(["noise-of-a-plugin"])
    source, spec = open_records(records, "train"), ClipSpec(2, 8)
    plain, here = (train(source, 3, spec=spec, transforms=each) for each in ((), transforms))
    differences = [abs(a["frames"].astype(int) - b["frames"]).max() for a, b in zip(plain, here, strict=True)]
    assert differences == [1, 1, 1]
    assert_same(train(source, 3, spec=spec, transforms=transforms, num_workers=1), here)


def test_names_of_transforms(monkeypatch):
    monkeypatch.setattr(registry, "TRANSFORMS", {})
    register_transform("dark")(Darken)
    register_transform("dark")(Darken)  # a module that is imported twice
    assert isinstance(make_transforms(["dark"])[0], Darken)
    with pytest.raises(UserError, match=r"unknown transform 'drak': did you mean 'dark'\?.*config.plugins"):
        make_transforms(["drak"])
    with pytest.raises(UserError, match="unknown transform 'x': choose among dark"):
        make_transforms(["x"])
    with pytest.raises(UserError, match="transform 'dark' is registered already, by "):
        register_transform("dark")(Invert)
    register_transform("none")(dict)
    with pytest.raises(UserError, match=r"transform 'none' is a dict: it must be a grain\.transforms"):
        make_transforms(["none"])


def test_an_endless_run_costs_nothing_to_open():
    batches = train_batches(
        Rulers(3), SPEC, batch_size=1, seed=0, num_steps=10**15, start_step=10**14, num_threads=0
    )
    assert [batch["frames"].shape[0] for batch in islice(batches, 2)] == [1, 1]


def test_transforms_of_the_config_reach_the_batches(records, tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "TRANSFORMS", {})

    @register_transform("black")
    class Black(grain.transforms.Map):
        def map(self, clip):
            clip["frames"][...] = 0
            return clip

    found = {}
    monkeypatch.setattr(
        training, "train", lambda model, batches, **options: found.update(options, batches=batches)
    )
    flags = [f"--config.data.dir={records}", "--config.train.batch_size=2"]
    training.run_training(load_config(CUSTOM, flags), tmp_path)
    assert next(iter(found["batches"](0)))["frames"].any()
    settings = load_config(CUSTOM, [*flags, "--config.data.transforms=('black',)"])
    training.run_training(settings, tmp_path)
    assert not next(iter(found["batches"](0)))["frames"].any()
    assert found["config"]["data"]["transforms"] == ["black"]
    with pytest.raises(UserError, match="unknown transform 'blak': did you mean 'black'"):
        training.run_training(settings | {"data": settings["data"] | {"transforms": ["blak"]}}, tmp_path)

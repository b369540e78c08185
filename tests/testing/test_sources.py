"""The sources that are shipped keep the rules; each rule catches one that breaks it."""

from dataclasses import dataclass

import numpy as np
import pytest

from adafocus_jax.cli.main import run_command
from adafocus_jax.data.batches.sources import open_data
from adafocus_jax.data.media.frames import Frame, unreduced
from adafocus_jax.demo.videos import write_videos
from adafocus_jax.testing import RuleBrokenError, check_source


def test_sources_that_are_shipped(tmp_path):
    write_videos(tmp_path / "videos", num_train=10, num_test=10, workers=1, progress=False)
    videos, records = str(tmp_path / "videos" / "train"), str(tmp_path / "records")
    run_command(["prepare", videos, records, "--size", "48", "--fps", "0", "--workers", "0"])
    check_source(open_data(records, "train"))
    check_source(open_data(tmp_path / "videos", "train"), num_videos=1)


@dataclass
class Noise:
    """A video of five frames."""

    broken: str
    number: int

    @property
    def name(self):
        return "" if self.broken == "name" else f"video {self.number}"

    @property
    def labels(self):
        return {"outside": (self.number + 2,), "many": (0, 1)}.get(self.broken, (self.number,))

    def read(self, choose, reduce=unreduced):
        seed = self.number if self.broken != "repeatable" else None
        video = np.random.default_rng(seed).integers(0, 256, (5, 6, 9, 3), np.uint8)
        step = 1 if self.broken == "reduced" else reduce(6, 9)
        chosen = list(choose(5))
        for t in chosen[::-1] if self.broken == "order" and len(chosen) < 5 else chosen:
            pixels = video[t, ::step, ::step]
            yield Frame(t, 0.1 * t, pixels / 255 if self.broken == "float" else pixels)


class Noises:
    """Two of them."""

    def __init__(self, broken=""):
        self.traits = {}
        self.broken = broken
        self.classes = ("a", "a") if broken == "classes" else ("a", "b")
        self.max_labels = 0 if broken == "no labels" else 1

    def __len__(self):
        return 0 if self.broken == "empty" else 2

    def __getitem__(self, index):
        if not 0 <= index < 2 and self.broken != "index":
            raise IndexError(index)
        return Noise(self.broken, index)

    def __setstate__(self, state):
        self.__dict__ = state
        if self.broken == "pickled":
            self.broken = "repeatable"


def test_a_sound_source_passes():
    check_source(Noises())


@pytest.mark.parametrize(
    ("broken", "rule"),
    [
        ("empty", "has videos"),
        ("classes", "has videos, names of classes"),
        ("no labels", "greatest number of labels"),
        ("index", "raises IndexError outside 0…len − 1"),
        ("name", "has a name"),
        ("outside", "labels within the classes"),
        ("many", "labels within the classes"),
        ("float", "reads frames"),
        ("repeatable", "reads the same each time, also pickled"),
        ("pickled", "reads the same each time, also pickled"),
        ("order", "reads chosen frames in order"),
        ("reduced", "reduces frames to"),
    ],
)
def test_a_source_that_breaks_a_rule(broken, rule):
    with pytest.raises(RuleBrokenError, match=rule) as caught:
        check_source(Noises(broken))
    assert "source Noises" in str(caught.value)

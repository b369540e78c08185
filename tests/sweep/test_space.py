import re
from pathlib import Path

import pytest

from adafocus_jax.errors import UserError
from adafocus_jax.sweep.space import check_trials, product, read_sweep, sampled

DEMO = str(Path(__file__).parents[2] / "configs" / "demo.py")
SWEEPS = Path(__file__).parents[2] / "configs" / "sweeps"

OWN = """
from adafocus_jax.config import base_config


def get_config():
    return base_config("uni_adafocus_tiny")


def sweep_lr(config):
    for factor in (1, 2):
        yield {"optimizer.lr": factor * config.optimizer.lr}


def sweep_seed():
    return [{"seed": seed} for seed in range(3)]


def sweep_broken():
    yield 1 / 0


def sweep_typo():
    yield {"optimizer.learning_rat": 0.1}
"""


@pytest.fixture
def own(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(OWN)
    return str(path)


def test_several_names_are_multiplied_the_last_changing_fastest(own):
    trials = read_sweep("lr,seed", own)
    assert [trial["seed"] for trial in trials] == [0, 1, 2, 0, 1, 2]
    assert [trial["optimizer.lr"] for trial in trials] == [0.002] * 3 + [0.004] * 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sed", "no function sweep_sed in .*own.py: did you mean 'seed'"),
        ("zzz", "there are: lr, seed, broken, typo"),
        ("", "names no function"),
        ("lr,lr", "two of the sweeps set 'optimizer.lr'"),
        ("broken", "sweep_broken fails: ZeroDivisionError"),
        ("nowhere.py:lr", "no such file: 'nowhere.py'"),
    ],
)
def test_what_cannot_be_read_is_named(own, text, message):
    with pytest.raises(UserError, match=message):
        read_sweep(text, own)


def test_a_typo_is_refused_before_the_first_trial(own):
    with pytest.raises(UserError, match=r"trial 0, optimizer.learning_rat=0.1: unknown config key"):
        check_trials(own, [], read_sweep("typo", own))
    with pytest.raises(UserError, match=r"trials 0 and 1 are the same, seed=1"):
        check_trials(own, [], [{"seed": 1}, {"seed": 1}])
    with pytest.raises(UserError, match="seed=-1 is not valid"):
        check_trials(own, [], [{"seed": -1}])


def test_a_longer_random_sweep_begins_alike():
    def draw(rng):
        return {"optimizer.lr": float(rng.uniform())}

    assert list(sampled(5, draw))[:3] == list(sampled(3, draw))
    assert len({trial["optimizer.lr"] for trial in product(sampled(5, draw), [{"seed": 0}])}) == 5


@pytest.mark.parametrize("file", sorted(SWEEPS.glob("*.py")), ids=lambda path: path.stem)
def test_every_shipped_sweep_fits_the_demo(file):
    text = file.read_text()
    config = str(file) if "def get_config" in text else DEMO
    names = re.findall(r"^def sweep_(\w+)", text, re.MULTILINE)
    for name in names:
        assert check_trials(config, [], read_sweep(f"{file}:{name}", config))
    assert names or "def suggest" in text

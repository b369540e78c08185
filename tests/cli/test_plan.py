import json
import math
import re
from collections import defaultdict
from pathlib import Path

import jax
import pytest

from adafocus_jax.cli.main import main
from adafocus_jax.config import load_config
from adafocus_jax.plan import CHIPS, Topology, plan_step, planner
from adafocus_jax.train.memory import GIB, OutOfMemoryError

CONFIGS = Path(__file__).parents[2] / "configs"
README = Path(__file__).parents[2] / "README.md"
ROWS = re.findall(
    r"^\| `(\w+)`[^|]*\| (\w+:\w+) \| (\w+) \| (\d+) \| ([\d.]+) / ([\d.]+) \| (\d+) \| \d+ \|$",
    README.read_text(),
    re.MULTILINE,
)
"""Of README's table: config, slice, dtype, batch size, GiB of training and of evaluation, MiB reduced."""

CONFIG = """\
from adafocus_jax.config import base_config

def get_config():
    config = base_config("x3d_tiny")
    config.model.num_classes = 3
    config.model.num_candidates = 2
    config.model.image_size = 16
    config.train.batch_size = 8
    return config
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config.py"
    path.write_text(CONFIG)
    return str(path)


@pytest.fixture
def simulated(monkeypatch):
    """The four simulated devices in place of a slice."""
    slice_ = Topology("v5e:2x2", CHIPS["v5e"], jax.devices())
    monkeypatch.setattr("adafocus_jax.cli.plan.open_topology", lambda name: slice_)
    return slice_


def test_figures_of_a_step(config, simulated, tmp_path, capsys):
    out = tmp_path / "plan.json"
    words = ["--topology", "v5e:2x2", "--max-compiles", "0", "--core-rate", "100", "--json", str(out)]
    assert main(["plan", "--config", config, *words]) == 0
    figures = json.loads(out.read_text())
    train, evaluate = figures["train"], figures["evaluate"]
    assert train["collectives"]["all-reduce"]["bytes"] > 0
    assert not evaluate["collectives"]
    assert train["flops"] > 2 * evaluate["flops"] > 0
    assert train["memory"]["aliased"] > 0
    guess = train["estimate"]
    assert guess["videos_per_sec"] == pytest.approx(8 / guess["step_sec"])
    assert guess["data_cores"] == pytest.approx(guess["videos_per_sec"] / 100)
    printed = capsys.readouterr()
    assert "estimate (not measured)" in printed.out
    assert "yes, 0% of 15.75 GiB" in printed.out
    assert "learning rate" not in printed.err  # the base's belongs to another batch
    assert jax.config.jax_compilation_cache_dir is None


def test_mirrored_labels_need_no_data(config, simulated, monkeypatch, capsys):
    def plan_step(lowered):
        raise OutOfMemoryError(20 * GIB, 16 * GIB)

    monkeypatch.setattr(planner, "plan_step", plan_step)
    words = ["--topology", "v5e:2x2", "--max-compiles", "0", "--config.data.flip_labels=True"]
    assert main(["plan", "--config", config, *words]) == 1
    assert "NO: needs 20.00" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(("accumulate", "batch_size", "tried"), [(1, 8, 4), (2, 16, 8)])
def test_a_step_that_does_not_fit_and_the_batch_that_does(
    config, simulated, monkeypatch, capsys, accumulate, batch_size, tried
):
    def lower(self, name, batch_size):
        return name, batch_size

    def plan_step(lowered):
        raise OutOfMemoryError(lowered[1] * 5 * GIB, 15.75 * GIB)

    monkeypatch.setattr(planner.Planner, "lower", lower)
    monkeypatch.setattr(planner, "plan_step", plan_step)
    settings = {"train.accumulate": accumulate, "train.batch_size": batch_size}
    words = [f"--config.{key}={value}" for key, value in settings.items()]
    assert main(["plan", "--config", config, "--topology", "v5e:2x2", *words]) == 1
    printed = capsys.readouterr()
    assert f"NO: needs {batch_size * 5}.00" in " ".join(printed.out.split())
    assert f"largest batch that fits: 0 ({tried}, the next size up, does not)" in printed.out
    assert f"train step, batch {tried}, v5e:2x2: does not fit" in printed.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--config.train.batch_size=6"], "a batch of 6 does not divide over 4 devices: take 4 or 8"),
        (["--config.train.accumulate=4"], "over 4 devices in 4 parts each: take 16"),
        (["--config.model.num_classes=0"], "give --config.model.num_classes=K"),
    ],
)
def test_mistakes_are_told_in_a_line(config, simulated, words, message, capsys):
    assert main(["plan", "--config", config, "--topology", "v5e:2x2", *words]) == 2
    assert message in capsys.readouterr().err


def plan_slice(out, config, topology, **settings):
    """The figures of a slice, by the real compiler."""
    pytest.importorskip("libtpu", reason="needs the extra tpu")
    words = [f"--config.{key}={value}" for key, value in settings.items()]
    command = [
        "plan",
        "--config",
        str(config),
        "--topology",
        topology,
        "--max-compiles",
        "0",
        "--json",
        str(out),
    ]
    assert main([*command, *words]) == 0
    return json.loads(out.read_text())


def pixel_gathers(figures):
    return [g for name in ("train", "evaluate") for g in figures[name]["gathers"] if g["of_pixels"]]


@pytest.mark.parametrize(
    ("topology", "chips", "parallel", "dtype"),
    [
        ("v5e:4x4", 16, "pmap", "float32"),
        pytest.param("v5e:4x4", 16, "shard_map", "bfloat16", marks=pytest.mark.slow),
        pytest.param("v4:4x4x4", 64, "pmap", "float32", marks=pytest.mark.slow),
        pytest.param("v6e:8x8", 64, "pmap", "bfloat16", marks=pytest.mark.slow),
    ],
)
def test_a_real_slice(config, tmp_path, monkeypatch, topology, chips, parallel, dtype):
    programs = []

    def spy(lowered):
        programs.append(lowered.as_text())
        return plan_step(lowered)

    monkeypatch.setattr(planner, "plan_step", spy)
    settings = {"train.batch_size": chips, "train.parallel": parallel, "model.dtype": dtype}
    figures = plan_slice(tmp_path / "plan.json", config, topology, **settings)
    assert figures["chips"] == chips
    assert all(f"num_partitions = {chips}" in program for program in programs)  # chips of several hosts
    assert figures["train"]["fits"]
    assert "all-reduce" in figures["train"]["collectives"]
    assert not pixel_gathers(figures)
    # float32 parameters and momentum: both stay in place.
    assert figures["train"]["memory"]["aliased"] == pytest.approx(
        figures["train"]["memory"]["outputs"], rel=0.1
    )


def test_the_table_in_readme_covers_variants_slices_and_recipes():
    settings = {recipe: load_config(str(CONFIGS / f"{recipe}.py")) for recipe, *_ in ROWS}
    assert settings.keys() >= {"activitynet", "fcvid", "mini_kinetics", "something_v1", "kinetics400"}
    covered = defaultdict(set)
    for recipe, topology, dtype, *_ in ROWS:
        generation, _, sides = topology.partition(":")
        chips = math.prod(map(int, sides.split("x")))
        covered[settings[recipe]["model"]["name"]] |= {generation, chips, dtype}
    assert covered.keys() == {"uni_adafocus", "uni_adafocus_tsm", "uni_adafocus_x3d"}
    assert set().union(*covered.values()) == {"v4", "v5e", "v6e", 4, 64, "float32", "bfloat16"}
    as_they_stand = {(recipe, str(values["train"]["batch_size"])) for recipe, values in settings.items()}
    assert as_they_stand <= {(recipe, batch_size) for recipe, _, _, batch_size, *_ in ROWS}


@pytest.mark.slow
@pytest.mark.parametrize(("recipe", "topology", "dtype", "batch_size", "train", "evaluate", "reduced"), ROWS)
def test_a_row_of_readme(tmp_path, recipe, topology, dtype, batch_size, train, evaluate, reduced):
    settings = {"model.dtype": dtype, "train.batch_size": batch_size}
    figures = plan_slice(tmp_path / "plan.json", CONFIGS / f"{recipe}.py", topology, **settings)
    assert not pixel_gathers(figures)
    # Not to the digit: another release of libtpu lays memory out a little differently.
    need = [figures[name]["memory"]["total"] / GIB for name in ("train", "evaluate")]
    assert need == pytest.approx([float(train), float(evaluate)], rel=0.1, abs=0.1)
    traffic = figures["train"]["collectives"]["all-reduce"]["bytes"] / 2**20
    assert traffic == pytest.approx(float(reduced), rel=0.02)

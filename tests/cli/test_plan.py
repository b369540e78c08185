import json

import jax
import pytest

from adafocus_jax.cli import plan
from adafocus_jax.cli.main import main
from adafocus_jax.plan import CHIPS, Topology
from adafocus_jax.train.memory import GIB, OutOfMemoryError

# Model, classes, batch; the slice that README names for it.
SMALLEST = [
    (("uni_adafocus", 200, 32), "v5e:2x2"),
    (("uni_adafocus_tsm", 174, 64), "v5e:2x2"),
    (("uni_adafocus_x3d", 400, 64), "v5e:4x4"),
]

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
    monkeypatch.setattr(plan, "open_topology", lambda name: slice_)
    jax.config.update("jax_disable_most_optimizations", True)
    yield slice_
    jax.config.update("jax_disable_most_optimizations", False)


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
    printed = capsys.readouterr().out
    assert "ESTIMATE, not measured" in printed
    assert "yes, 0% of 16 GiB" in printed


def test_a_step_that_does_not_fit_and_the_batch_that_does(config, simulated, monkeypatch, capsys):
    def lower(self, name, batch_size):
        return name, batch_size

    def plan_step(lowered):
        raise OutOfMemoryError(lowered[1] * 5 * GIB, 15.75 * GIB)

    monkeypatch.setattr(plan._Planner, "lower", lower)
    monkeypatch.setattr(plan, "plan_step", plan_step)
    assert main(["plan", "--config", config, "--topology", "v5e:2x2"]) == 0
    printed = capsys.readouterr()
    assert "NO: needs 40.00" in " ".join(printed.out.split())
    assert "largest batch that fits: 0" in printed.out
    assert "train step, batch 4, v5e:2x2: does not fit" in printed.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--config.train.batch_size=6"], "a batch of 6 does not divide over 4 devices: take 4 or 8"),
        (["--config.model.num_classes=0"], "give --config.model.num_classes=K"),
    ],
)
def test_mistakes_are_told_in_a_line(config, simulated, words, message, capsys):
    assert main(["plan", "--config", config, "--topology", "v5e:2x2", *words]) == 2
    assert message in capsys.readouterr().err


def test_a_real_slice(config, tmp_path):
    pytest.importorskip("libtpu", reason="needs the extra tpu")
    out = tmp_path / "plan.json"
    words = [
        "--topology",
        "v5e:4x4",
        "--config.train.batch_size=16",
        "--max-compiles",
        "0",
        "--json",
        str(out),
    ]
    assert main(["plan", "--config", config, *words]) == 0
    figures = json.loads(out.read_text())
    assert figures["chips"] == 16
    assert figures["train"]["fits"]
    assert "all-reduce" in figures["train"]["collectives"]
    assert not [gather for gather in figures["train"]["gathers"] if gather["of_pixels"]]
    # float32 parameters and momentum: both stay in place.
    assert figures["train"]["memory"]["aliased"] == pytest.approx(
        figures["train"]["memory"]["outputs"], rel=0.1
    )


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("recipe", "topology"), SMALLEST)
def test_a_published_recipe_fits_its_smallest_slice(tmp_path, recipe, topology, dtype):
    pytest.importorskip("libtpu", reason="needs the extra tpu")
    model, classes, batch_size = recipe
    path, out = tmp_path / "config.py", tmp_path / "plan.json"
    path.write_text(
        f"from adafocus_jax.config import base_config\ndef get_config():\n    return base_config({model!r})\n"
    )
    settings = {"model.num_classes": classes, "model.dtype": dtype, "train.batch_size": batch_size}
    words = [f"--config.{key}={value}" for key, value in settings.items()]
    command = [
        "plan",
        "--config",
        str(path),
        "--topology",
        topology,
        "--max-compiles",
        "0",
        "--json",
        str(out),
    ]
    assert main([*command, *words]) == 0
    figures = json.loads(out.read_text())
    for step in (figures["train"], figures["evaluate"]):
        assert step["fits"]
        assert not [gather for gather in step["gathers"] if gather["of_pixels"]]

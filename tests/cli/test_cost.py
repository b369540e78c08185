import json
import re
from pathlib import Path

import pytest

from adafocus_jax.cli.main import main, run_command
from adafocus_jax.models import registry

CONFIGS = Path(__file__).parents[2] / "configs"
OWN = '''
from flax import linen as nn
from adafocus_jax.config import base_config
from adafocus_jax.models.layers import FrameFeatures
from adafocus_jax.models.registry import ENCODERS

class Strides(nn.Module):
    """One convolution of 8-pixel squares, without norm."""
    width: float
    norm: object
    dtype: object

    @nn.compact
    def __call__(self, frames, train):
        shape = frames.shape
        maps = nn.Conv(32, (8, 8), (8, 8), use_bias=False)(frames.reshape(-1, *shape[2:]))
        maps = maps.reshape(*shape[:2], *maps.shape[1:])
        return FrameFeatures(maps, maps.mean(axis=(2, 3)))

ENCODERS["strides"] = Strides

def get_config(variant):
    config = base_config(variant)
    config.model.update({name: "strides" for name in config.model if name.endswith("encoder")})
    return config
'''


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A config file that registers an encoder."""
    monkeypatch.setattr(registry, "ENCODERS", dict(registry.ENCODERS))
    file = tmp_path / "own.py"
    file.write_text(OWN)
    return file


def squares(size):
    return (size // 8) ** 2 * 8 * 8 * 3 * 32


def test_an_encoder_that_a_config_registers(own):
    cost = run_command(["cost", "--config", f"{own}:uni_adafocus_tiny"])
    assert cost["parts"]["global_encoder"] == {"macs": 8 * squares(48), "params": 8 * 8 * 3 * 32}
    assert cost["parts"]["local_encoder"] == {"macs": 3 * squares(32), "params": 8 * 8 * 3 * 32}
    assert cost["macs"] == cost["exit_macs"][-1] == sum(part["macs"] for part in cost["parts"].values())
    assert cost["params"] == sum(part["params"] for part in cost["parts"].values())
    assert len(cost["exit_macs"]) == 8 + 3
    assert cost["model"]["num_classes"] == 200


def test_settings_reach_the_model(own):
    words = ["--set", "num_candidates=4", "--config.model.image_size=32", "--num-classes", "5"]
    assert run_command(["cost", "--config", f"{own}:tsm_tiny", *words])["parts"] == {
        "encoder": {"macs": 4 * squares(32), "params": 8 * 8 * 3 * 32},
        "classifier": {"macs": 4 * 32 * 5, "params": 32 * 5 + 5},
    }


@pytest.mark.parametrize(
    ("words", "published"),
    [
        (["--model", "tsm_mobilenet_v2", "--set", "num_candidates=1"], "0.2995"),
        (["--model", "tsm_resnet50", "--set", "num_candidates=1", "--config.model.image_size=96"], "0.7507"),
        (["--config", f"{CONFIGS / 'something_v1.py'}:f8", "--set", "patch_size=96"], "8.8"),
    ],
)
def test_published_numbers_are_printed(words, published, capsys, tmp_path):
    assert main(["cost", *words, "--json", str(tmp_path / "cost.json")]) == 0
    assert re.search(rf"(?<![\d.]){re.escape(published)}", capsys.readouterr().out)
    cost = json.loads((tmp_path / "cost.json").read_text())
    digits = len(published.split(".")[1])
    macs = cost["parts"]["encoder"]["macs"] if "encoder" in cost["parts"] else cost["macs"]
    assert f"{macs / 1e9:.{digits}f}" == published


def test_two_exit_models_keep_three_candidates_per_focus_frame(own):
    """Whichever way F is changed; N alone too, and it costs nothing."""
    name = f"{own}:uni_adafocus_tsm"
    for words, candidates in (
        (["--set", "num_focus=4"], 12),
        (["--config.model.num_focus=4"], 12),
        (["--config.model.num_focus=4", "--config.model.num_candidates=20"], 20),
    ):
        assert run_command(["cost", "--config", name, *words])["model"]["num_candidates"] == candidates


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "tiny"], "unknown model 'tiny': choose one of uni_adafocus"),
        (["--model", "tsm_tiny", "--set", "image_sise=96"], "did you mean 'image_size'?"),
        (["--model", "tsm_tiny", "--set", "image_size"], "write NAME=VALUE"),
        (["--model", "tsm_tiny", "--num-classes", "-1"], "--num-classes -1 must be at least 1"),
        (["--config", "nowhere.py"], "no such config file: 'nowhere.py'"),
    ],
)
def test_a_mistake_is_one_line(words, message, capsys):
    assert main(["cost", *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_model_or_a_config_is_needed(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["cost"])
    assert "one of the arguments --model --config is required" in capsys.readouterr().err

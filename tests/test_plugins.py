"""A module of the user's, from training to the report: what it registers is found by every command and worker."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import chex
import cv2
import numpy as np
import pytest

from adafocus_jax.checkpoint import load_checkpoint
from adafocus_jax.checkpoint.torch_files import read_state_dict
from adafocus_jax.cli.main import main, run_command
from adafocus_jax.errors import UserError
from adafocus_jax.evaluate.evaluators import EVALUATORS
from adafocus_jax.losses import LOSS_TERMS
from adafocus_jax.models.registry import ENCODERS, HEADS
from adafocus_jax.plugins import VARIABLE, import_plugins
from adafocus_jax.train.optimizer import OPTIMIZERS

ROOT, FIXTURES = Path(__file__).parents[1], Path(__file__).parent / "fixtures"
PLUGIN = '''
import os

import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from adafocus_jax import register_evaluator, register_loss_term, register_optimizer
from adafocus_jax.checkpoint import CONV, LINEAR, Names, Rule, register_names
from adafocus_jax.models import register_encoder, register_head
from adafocus_jax.models.heads import LinearHead
from adafocus_jax.models.layers import Conv, pool_frames

with open(os.environ["PLUGIN_LOG"], "a") as log:
    print(os.getpid(), file=log)


class Patches(nn.Module):
    """Non-overlapping 8 x 8 patches, each embedded by itself."""

    width: float = 1.0
    norm: type = None
    dtype: type = jnp.float32

    @nn.compact
    def __call__(self, frames, train):
        return pool_frames(nn.relu(Conv(int(8 * self.width), 8, 8, dtype=self.dtype, name="embed")(frames)))


class CosineHead(LinearHead):
    """Logits from features of length 1."""

    def __call__(self, features, keys, train):
        features = features / (1e-6 + jnp.linalg.norm(features, axis=-1, keepdims=True))
        return super().__call__(features, keys, train)


register_encoder("patches", Patches)
register_head("cosine", CosineHead)
register_names(Patches, lambda patches: (Names((Rule("projection", "embed", CONV),)),))
register_names(CosineHead, lambda head: (Names((Rule("cosine", "linear", LINEAR),)),))
register_loss_term("logit_norm", lambda out, labels: jnp.square(out.logits).mean(axis=-1))
register_optimizer("clipped_lion", lambda learning_rate, weight_decay, b1=0.9: optax.chain(
    optax.clip(1.0), optax.lion(learning_rate, b1, weight_decay=weight_decay)))
register_evaluator("confidence", lambda found: [("largest_logit", float(np.max(found.logits)))])
'''
CONFIG = """
from adafocus_jax.config import base_config


def get_config():
    config = base_config("tsm_tiny", plugins=("adafocus_test_plugin",))
    config.model.update({"encoder": "patches", "head": "cosine", "num_candidates": 2, "image_size": 16})
    config.data.resize = 16
    config.loss.weights.logit_norm = 0.1
    config.optimizer.update({"name": "clipped_lion", "lr": 1e-3})
    config.optimizer.arguments.b1 = 0.8
    config.train.update({"batch_size": 8, "steps": 2, "log_every": 1, "eval_pictures": 0})
    config.train.evaluators = ("classification", "confidence")
    return config
"""


def forget() -> None:
    """As if nothing had been imported yet: what a new process knows."""
    sys.modules.pop("adafocus_test_plugin", None)
    os.environ.pop(VARIABLE, None)
    names = {"patches", "cosine", "logit_norm", "clipped_lion", "confidence"}
    for registry in (ENCODERS, HEADS, LOSS_TERMS, OPTIMIZERS, EVALUATORS):
        for name in names & registry.keys():
            del registry[name]


@pytest.fixture(scope="module")
def job(tmp_path_factory) -> Path:
    """``records/``, ``config.py`` and ``run/``, trained in a process of its own."""
    out = tmp_path_factory.mktemp("job")
    with tarfile.open(FIXTURES / "written_by_0_1.tar.xz") as archive:
        archive.extractall(out, filter="data")
    (out / "plugins").mkdir()
    (out / "plugins" / "adafocus_test_plugin.py").write_text(PLUGIN)
    (out / "config.py").write_text(CONFIG)
    config, data = ["--config", str(out / "config.py")], ["--data", str(out / "records")]
    done = in_process(out, "train", *config, *data, "--workdir", str(out / "mine"))
    assert done.returncode == 0, done.stderr
    assert "loss/logit_norm" in (out / "mine" / "metrics.jsonl").read_text()
    return out


def in_process(out: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(out / "plugins"), *filter(None, sys.path)])
    }
    environment |= {"PLUGIN_LOG": str(out / "log"), "JAX_DISABLE_MOST_OPTIMIZATIONS": "true"}
    command = [sys.executable, "-m", "adafocus_jax.cli.main", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)


@pytest.fixture
def fresh(job, monkeypatch) -> Path:
    """This process knows nothing of the plugin, but where it lies."""
    monkeypatch.setenv("PLUGIN_LOG", str(job / "log"))
    monkeypatch.syspath_prepend(job / "plugins")
    forget()
    yield job
    forget()


def test_training_ends_evaluated_by_the_plugin_and_saves_its_name(job):
    assert load_checkpoint(job / "mine").config["plugins"] == ["adafocus_test_plugin"]
    last = json.loads((job / "mine" / "metrics.jsonl").read_text().splitlines()[-1])
    assert {"split", "top1", "largest_logit"} <= last.keys()


def test_evaluate_and_its_workers_import_the_plugin(job):
    words = ["--checkpoint", str(job / "mine"), "--workers", "1", "--json", str(job / "figures.json")]
    before = len((job / "log").read_text().split())
    done = in_process(job, "evaluate", *words, "--data", str(job / "records"))
    assert done.returncode == 0, done.stderr
    assert "largest_logit" in json.loads((job / "figures.json").read_text())
    pids = (job / "log").read_text().split()[before:]
    assert len(set(pids)) == len(pids) == 2  # the command and its worker


def test_predict(fresh, tmp_path):
    video = cv2.VideoWriter(str(tmp_path / "clip.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 8, (32, 32))
    for brightness in range(0, 80, 10):
        video.write(np.full((32, 32, 3), brightness, np.uint8))
    video.release()
    assert main(["predict", "--checkpoint", str(fresh / "mine"), str(tmp_path / "clip.mp4")]) == 0


def test_report(fresh, tmp_path):
    assert main(["report", str(fresh / "mine"), "--out", str(tmp_path / "report.html")]) == 0


def test_cost_by_the_config_file(fresh):
    figures = run_command(["cost", "--config", str(fresh / "config.py")])
    assert figures["model"]["encoder"] == "patches"


def test_plan_counts_the_training_step_by_the_config_file(fresh, tmp_path):
    config = tmp_path / "jester.py"  # a data set whose number of videos is known
    shutil.copy(fresh / "config.py", config)
    words = ["--peak-share", "0.1", "--machines", "v5e-4"]
    (row,) = run_command(["plan", "--config", str(config), *words])["rows"]
    assert row["name"] == "jester"


def test_convert_goes_by_the_names_of_the_plugin(fresh, tmp_path, monkeypatch):
    theirs, back = str(tmp_path / "theirs.pth"), tmp_path / "back"
    run_command(["convert", str(fresh / "mine"), theirs, "--to-torch"])
    assert {"projection.weight", "cosine.weight"} <= read_state_dict(theirs).keys()
    monkeypatch.setenv(VARIABLE, "adafocus_test_plugin")
    words = ["encoder=patches", "head=cosine", "num_candidates=2", "image_size=16"]
    words = [word for pair in words for word in ("--set", pair)]
    run_command(["convert", theirs, str(back), "--model", "tsm_tiny", "--num-classes", "10", *words])
    mine, again = load_checkpoint(fresh / "mine"), load_checkpoint(back)
    chex.assert_trees_all_equal(again.variables["params"], mine.variables["params"])


def test_a_plugin_that_is_gone_is_one_line_that_names_it(fresh, monkeypatch, capsys):
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(fresh / "plugins")])
    assert main(["evaluate", "--checkpoint", str(fresh / "mine")]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("adafocus evaluate: no plugin 'adafocus_test_plugin': install it")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import nowhere_at_all", "ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("1 / 0", "ZeroDivision"),
    ],
)
def test_a_plugin_that_does_not_load_says_why(fresh, tmp_path, monkeypatch, text, message):
    (tmp_path / "adafocus_broken_plugin.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=f"plugin adafocus_broken_plugin does not load: {message}"):
        import_plugins(["adafocus_broken_plugin"])


def test_the_environment_names_plugins_of_commands_without_a_config(fresh, monkeypatch, capsys):
    monkeypatch.setenv(VARIABLE, "adafocus_test_plugin")
    assert main(["cost", "--model", "tsm_tiny", "--set", "encoder=patches", "--set", "image_size=16"]) == 0
    assert "parameters" in capsys.readouterr().out

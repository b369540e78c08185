"""The plugins of README's section "Extend it", as they stand there, in a package of their own."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
FILE = re.compile(r"```python\n# (my_package/\w+\.py)\n(.*?)```", re.DOTALL)

USE = """
import jax, numpy as np
from adafocus_jax.config import for_classes, load_config, make_model, optimizer_options, loss_function
from adafocus_jax.data.batches.transforms import make_transforms
from adafocus_jax.data.datasets import DATASETS, read_dataset
from adafocus_jax.early_exit import CRITERIA
from adafocus_jax.evaluate.evaluators import EVALUATORS
from adafocus_jax.losses import LOSS_TERMS
from adafocus_jax.models import variable_shapes
from adafocus_jax.train import make_optimizer

settings = for_classes(load_config("my_package/my_config.py"), ["left", "right"])
assert settings["data"]["flip"] is False, "the data set knows that left and right have meaning"
model = make_model(settings)
params = variable_shapes(model)["params"]
assert params["global_encoder"]["conv"]["kernel"].shape == (3, 3, 3, 64)
assert params["global_head"]["hidden"]["kernel"].shape == (64, 256)
make_optimizer(optimizer_options(settings), params, num_steps=3, batch_size=2)
assert "logit_norm" in LOSS_TERMS and "confidence" in EVALUATORS and "agreement" in CRITERIA
(brighter,) = make_transforms(settings["data"]["transforms"])
clip = {"frames": np.full((2, 4, 4, 3), 100, np.uint8)}
frames = brighter.random_map(clip, np.random.default_rng(0))["frames"]
assert frames.dtype == np.uint8 and len(np.unique(frames)) == 1 and frames.max() != 100
logits = np.random.default_rng(0).standard_normal((5, 3, 2)).astype(np.float32)
assert CRITERIA["agreement"](logits).shape == (5,)
assert DATASETS["gestures"].num_classes == 2
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("readme")
    found = FILE.findall(README.read_text(encoding="utf-8"))
    assert {Path(name).stem for name, _ in found} == {
        *("parts", "encoders", "criteria", "transforms", "gestures", "my_config"),
    }
    for name, source in found:
        path = root / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(source, encoding="utf-8")
    return root


def test_the_plugins_of_the_readme_work_together(package):
    done = subprocess.run(
        [sys.executable, "-c", USE], cwd=package, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_data_set_of_the_readme_reads_its_annotations(package):
    (package / "annotations").mkdir()
    (package / "annotations" / "gestures.tsv").write_text("train\ta\tleft\nval\tb\tright\n")
    code = (
        "from types import SimpleNamespace; from pathlib import Path; import my_package.gestures as gestures\n"
        "found = gestures.read(SimpleNamespace(annotations=Path('annotations')))\n"
        "print(found.classes, [(row.split, row.video) for row in found.rows])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=package, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.stdout.strip() == "('left', 'right') [('train', 'a'), ('val', 'b')]", done.stderr

"""Exported programs of JAX run without Flax and without our models, and say the same."""

import json
import subprocess
import sys

import jax
import numpy as np
import pytest

from adafocus_jax.cli.main import main
from adafocus_jax.errors import UserError
from adafocus_jax.export import load
from adafocus_jax.export.files import MANIFEST
from adafocus_jax.safetensors import read_arrays, write_arrays
from tests.export.conftest import CLASSES, error

ALONE = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("flax", "optax", "orbax") or name == "adafocus_jax.models":
            raise ImportError(f"{name} is not here")

sys.meta_path.insert(0, Refuse())
import numpy as np
from adafocus_jax.export import load
model = load(sys.argv[1])
assert max(model.check().values()) < 1e-4
with np.load(sys.argv[2]) as given:
    np.savez(sys.argv[3], **model("glance", {"frames": given["frames"]}))
print(model.manifest["classes"])
"""


@pytest.fixture(scope="module")
def exported(uni, tmp_path_factory):
    out = tmp_path_factory.mktemp("jax") / "out"
    words = ["export", str(uni.workdir), str(out), "--format", "jax", "--rows", "1", "4"]
    assert main([*words, "--platforms", "cpu,cuda,tpu"]) == 0
    return out


def test_programs_run_without_flax_and_our_models(uni, exported, tmp_path):
    batch = uni.batch(3)
    expected = uni.apply(batch).exit_logits[:, : uni.model.num_glance]
    np.savez(tmp_path / "in.npz", frames=batch.frames[:, uni.model.glance_candidates])
    words = [str(exported), str(tmp_path / "in.npz"), str(tmp_path / "out.npz")]
    done = subprocess.run([sys.executable, "-c", ALONE, *words], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(list(CLASSES))
    with np.load(tmp_path / "out.npz") as found:
        assert error(found["logits"], expected) < 1e-5


def test_there_is_a_program_for_each_platform_stage_and_size_and_the_weights_once(exported):
    stages = ("glance", "choose", "look")
    programs = {f"{p}/{s}-{n}.bin" for p in ("cpu", "cuda", "tpu") for s in stages for n in (1, 4)}
    golden = {f"golden-{stage}.safetensors" for stage in stages}
    manifest = json.loads((exported / MANIFEST).read_text())
    assert set(manifest["sha256"]) == programs | golden | {"weights.safetensors"}


def test_what_does_not_fit_is_refused(exported, tmp_path, monkeypatch):
    model = load(exported)
    with pytest.raises(UserError, match="unknown stage='peek': choose one of glance, choose, look"):
        model("peek", {})
    with pytest.raises(UserError, match="glance takes frames as uint8"):
        model("glance", {"frames": np.zeros((1, 2), np.uint8)})
    inputs = model.manifest["stages"]["choose"]["inputs"]
    many = {name: np.zeros((5, *about["shape"]), about["dtype"]) for name, about in inputs.items()}
    with pytest.raises(UserError, match="5 rows of choose: give 1 to 4"):
        model("choose", many)
    monkeypatch.setattr(jax.export, "minimum_supported_calling_convention_version", 99)
    with pytest.raises(UserError, match=rf"JAX {jax.__version__}, which JAX {jax.__version__} cannot read"):
        load(exported)
    monkeypatch.undo()
    monkeypatch.setattr(jax, "default_backend", lambda: "metal")
    with pytest.raises(UserError, match="is for cpu, cuda, tpu, and this is metal"):
        load(exported)


def test_arrays_survive_and_other_libraries_read_them(tmp_path):
    arrays = {"a/b": np.arange(6, dtype=np.float32).reshape(2, 3), "scalar": np.asarray(7, np.int32)}
    write_arrays(tmp_path / "file.safetensors", arrays)
    found = read_arrays(tmp_path / "file.safetensors")
    assert {name: value.tolist() for name, value in found.items()} == {
        "a/b": [[0, 1, 2], [3, 4, 5]],
        "scalar": 7,
    }
    from adafocus_jax.checkpoint.torch_files import read_state_dict

    state = read_state_dict(tmp_path / "file.safetensors")
    np.testing.assert_array_equal(state["a/b"], arrays["a/b"])

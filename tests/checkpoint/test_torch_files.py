import argparse
import json
import logging
import os
import pickle
import sys
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest

from adafocus_jax.checkpoint.torch_files import read_state_dict, write_state_dict
from adafocus_jax.errors import UserError

VALUES = np.random.default_rng(0).standard_normal((40, 50), dtype=np.float32)


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="reads PyTorch's files (pip install torch)")


@pytest.fixture
def save(torch, tmp_path):
    def write(content, **options):
        torch.save(content, tmp_path / "a.pth.tar", **options)
        return tmp_path / "a.pth.tar"

    return write


@pytest.mark.parametrize("container", ["state_dict", "model_state", "model", None])
def test_weights_are_found(torch, save, container):
    weights = {"w": torch.from_numpy(VALUES), "n": torch.tensor(3)}
    content = {container: weights, "epoch": 3, "optimizer": {"state": {}}} if container else weights
    read = read_state_dict(save(content))
    np.testing.assert_array_equal(read["w"], VALUES)
    assert read["w"].dtype == np.float32
    assert read["n"] == 3


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_any_precision_becomes_float32(torch, save, dtype):
    tensor = torch.from_numpy(VALUES).to(getattr(torch, dtype))
    read = read_state_dict(save({"w": torch.nn.Parameter(tensor)}))["w"]
    np.testing.assert_array_equal(read, tensor.float().numpy())


def test_a_numpy_number_beside_the_weights_is_harmless(torch, save):
    content = {"state_dict": {"w": torch.from_numpy(VALUES)}, "best_acc1": np.float64(80.7)}
    assert read_state_dict(save(content)).keys() == {"w"}
    path = save(content, _use_new_zipfile_serialization=False)
    of_numpy_1 = path.read_bytes().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    path.write_bytes(of_numpy_1)
    assert read_state_dict(path).keys() == {"w"}


class Harmful:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_code_is_refused_and_not_run(save, tmp_path):
    trap = tmp_path / "trap"
    with pytest.raises(UserError, match=r"refused: .* run (posix|nt)\.mkdir"):
        read_state_dict(save({"state_dict": Harmful(trap)}))
    (tmp_path / "plain.pth").write_bytes(pickle.dumps({"state_dict": Harmful(trap)}))
    with pytest.raises(UserError):
        read_state_dict(tmp_path / "plain.pth")
    assert not trap.exists()


def test_the_class_that_a_file_needs_is_named(torch, save):
    with pytest.raises(UserError, match=r"refused: .* fractions\.Fraction"):
        read_state_dict(save({"state_dict": {"w": torch.zeros(1)}, "args": Fraction(1, 2)}))


@pytest.mark.parametrize("key", ["model", "state_dict"], ids=["torchvision", "timm"])
def test_checkpoints_of_training_scripts_hold_their_flags(torch, save, key):
    flags = argparse.Namespace(model="resnet50", lr=0.1, aa=None, sync_bn=True)
    content = {key: {"module.w": torch.ones(2)}, "optimizer": {"state": {}}, "epoch": 3, "args": flags}
    assert list(read_state_dict(save(content))) == ["w"]


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("share", [0, 0.004, 0.5, 0.99])
def test_a_truncated_file_is_one_line(torch, save, zipped, share):
    path = save({"w": torch.from_numpy(VALUES)}, _use_new_zipfile_serialization=zipped)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(UserError, match="damaged, cut short, or no PyTorch checkpoint") as error:
        read_state_dict(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"epoch": 3, "lr": 0.1}, "its keys are epoch, lr"),
        ([1, 2], "no dict"),
        ({"state_dict": {}}, "state_dict"),
    ],
)
def test_a_file_without_weights(save, content, message):
    with pytest.raises(UserError, match=rf"holds no state dict.*{message}"):
        read_state_dict(save(content))


@pytest.mark.parametrize(
    "wrapper", ["module.", "_orig_mod.", "module._orig_mod.", "_fsdp_wrapped_module.module."]
)
def test_names_come_without_wrappers_and_it_is_said(torch, save, caplog, wrapper):
    caplog.set_level(logging.INFO, "adafocus_jax")
    path = save({f"{wrapper}conv1.weight": torch.ones(2), f"{wrapper}my.module.bias": torch.ones(3)})
    assert sorted(read_state_dict(path)) == ["conv1.weight", "my.module.bias"]
    assert all(part in caplog.text for part in wrapper.strip(".").split("."))
    caplog.clear()
    read_state_dict(save({"conv1.weight": torch.ones(2)}))
    assert not caplog.messages
    with pytest.raises(UserError, match="there twice"):
        read_state_dict(save({"conv1.weight": torch.ones(2), f"{wrapper}conv1.weight": torch.ones(2)}))


def test_no_such_file(tmp_path):
    with pytest.raises(UserError, match="no such checkpoint file"):
        read_state_dict(tmp_path / "none.pth")


def test_without_pytorch_it_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "a.pth").write_bytes(b"")
    with pytest.raises(UserError, match=r"pip install 'adafocus_jax\[torch\]'"):
        read_state_dict(tmp_path / "a.pth")


def test_written_files_are_pytorchs(torch, tmp_path):
    write_state_dict(tmp_path / "a.pth.tar", {"w": VALUES, "n": np.zeros((), np.int64)})
    content = torch.load(tmp_path / "a.pth.tar", weights_only=True)
    assert content["state_dict"]["w"].equal(torch.from_numpy(VALUES))
    assert content["state_dict"]["n"].dtype == torch.int64
    assert [path.name for path in tmp_path.iterdir()] == ["a.pth.tar"]


def safetensors(tensors):
    """The bytes of a safetensors file, as its format is specified."""
    header, body = {"__metadata__": {"format": "pt"}}, b""
    for name, (dtype, array) in tensors.items():
        data = array.tobytes()
        header[name] = {
            "dtype": dtype,
            "shape": array.shape,
            "data_offsets": [len(body), len(body) + len(data)],
        }
        body += data
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def test_safetensors(tmp_path):
    half = VALUES.astype(ml_dtypes.bfloat16)
    content = safetensors({"w": ("F32", VALUES), "h": ("BF16", half), "n": ("I64", np.array(7))})
    (tmp_path / "a.safetensors").write_bytes(content)
    read = read_state_dict(tmp_path / "a.safetensors")
    np.testing.assert_array_equal(read["w"], VALUES)
    np.testing.assert_array_equal(read["h"], half.astype(np.float32))
    assert read["h"].dtype == np.float32
    assert read["n"].shape == ()
    for share in (0, 0.001, 0.01, 0.5, 0.999):
        (tmp_path / "a.safetensors").write_bytes(content[: int(share * len(content))])
        with pytest.raises(UserError, match="damaged, cut short, or no safetensors file"):
            read_state_dict(tmp_path / "a.safetensors")

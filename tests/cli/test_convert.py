import jax
import numpy as np
import pytest

from adafocus_jax.checkpoint import load_checkpoint
from adafocus_jax.checkpoint.convert import convert_state_dict, to_state_dict
from adafocus_jax.cli.main import main
from adafocus_jax.config import make_model
from adafocus_jax.models import create_model, init_variables

torch = pytest.importorskip("torch", reason="writes PyTorch's files (pip install torch)")
TINY = ("--model", "uni_adafocus_tiny")


@pytest.fixture(scope="module")
def model():
    return create_model("uni_adafocus_tiny", num_classes=5)


@pytest.fixture(scope="module")
def state_dict(model):
    leaves, structure = jax.tree.flatten(jax.eval_shape(lambda: init_variables(model, jax.random.key(0))))
    rng = np.random.default_rng(0)
    return to_state_dict(
        structure.unflatten([rng.standard_normal(leaf.shape, dtype=np.float32) for leaf in leaves]), model
    )


@pytest.fixture
def theirs(state_dict, tmp_path):
    tensors = {f"module.{name}": torch.from_numpy(array) for name, array in state_dict.items()}
    torch.save({"state_dict": tensors, "epoch": 50, "best_acc1": 80.7}, tmp_path / "theirs.pth.tar")
    return tmp_path / "theirs.pth.tar"


@pytest.fixture
def convert(capsys):
    """The exit status of ``adafocus convert`` and what it printed."""

    def run(*words):
        status = main(["convert", *map(str, words)])
        captured = capsys.readouterr()
        return status, captured.out + captured.err

    return run


def test_there_and_back(convert, theirs, state_dict, model, tmp_path):
    status, text = convert(theirs, tmp_path / "ours", *TINY, "--set", "num_candidates=24")
    assert status == 0, text
    assert "uni_adafocus_tiny, 5 classes" in text
    loaded = load_checkpoint(tmp_path / "ours")
    assert loaded.step == 0
    jax.tree.map(np.testing.assert_array_equal, loaded.variables, convert_state_dict(state_dict, model))
    assert make_model(loaded.config).num_candidates == 24

    status, text = convert(tmp_path / "ours", tmp_path / "back.pth.tar", "--to-torch")
    assert status == 0, text
    back = torch.load(tmp_path / "back.pth.tar", weights_only=True)["state_dict"]
    assert back.keys() == state_dict.keys()
    assert all(np.array_equal(back[name].numpy(), state_dict[name]) for name in back)


def test_encoders_one_after_the_other(convert, state_dict, tmp_path):
    for prefix in ("global_CNN.", "local_CNN."):
        part = {
            name.removeprefix(prefix): array for name, array in state_dict.items() if name.startswith(prefix)
        }
        torch.save({name: torch.from_numpy(array) for name, array in part.items()}, tmp_path / f"{prefix}pth")
    (tmp_path / "classes.txt").write_text("walk\nrun\njump\n")
    words = (*TINY, "--part", "global_encoder", "--classes", tmp_path / "classes.txt")
    assert convert(tmp_path / "global_CNN.pth", tmp_path / "one", *words)[0] == 0
    words = ("--part", "local_encoder", "--base", tmp_path / "one")
    assert convert(tmp_path / "local_CNN.pth", tmp_path / "two", *words)[0] == 0
    one, two = (load_checkpoint(tmp_path / name) for name in ("one", "two"))
    assert two.config["classes"] == ["walk", "run", "jump"]
    assert two.variables["params"]["proxy_head"]["kernel"].shape[1] == 3
    jax.tree.map(
        np.testing.assert_array_equal, *(x.variables["params"]["global_encoder"] for x in (one, two))
    )
    kernels = [x.variables["params"]["local_encoder"]["conv1"]["kernel"] for x in (one, two)]
    expected = np.transpose(state_dict["local_CNN.conv1.weight"], (2, 3, 1, 0))
    assert [np.array_equal(kernel, expected) for kernel in kernels] == [False, True]


def test_what_the_head_of_x3d_lacks_is_initialised_anew(convert, tmp_path):
    theirs = create_model("x3d_tiny", num_classes=5)
    shapes = jax.eval_shape(lambda: init_variables(theirs, jax.random.key(0)))
    ones = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), shapes)
    tensors = {name: torch.from_numpy(array) for name, array in to_state_dict(ones, theirs).items()}
    torch.save({"model_state": tensors}, tmp_path / "x3d.pyth")
    words = ("--model", "uni_adafocus_x3d_tiny", "--part", "global_encoder", "--num-classes", "7")
    status, text = convert(tmp_path / "x3d.pyth", tmp_path / "ours", *words)
    assert status == 0, text
    assert (
        "the classifier initialises a head: head.lin_5.weight to params/global_final_head/hidden/kernel"
        in text
    )
    assert "not used of the classifier: head.projection" in text
    params = load_checkpoint(tmp_path / "ours").variables["params"]
    for head, taken in (("global_final_head", True), ("global_head", True), ("local_head", False)):
        assert (params[head]["hidden"]["kernel"] == 1).all() == taken
        assert params[head]["logits"]["kernel"].shape == (32, 7)


def complaints(text: str) -> list[str]:
    """The lines with which the command refuses; beside them it may say what it has read."""
    assert "Traceback" not in text
    return [line for line in text.splitlines() if line.startswith("adafocus convert: ")]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "which model is it? give --model: choose one of uni_adafocus"),
        (("--model", "tiny"), "unknown model 'tiny': choose one of uni_adafocus"),
        (("--model", "uni_adafocus"), "missing ("),
        ((*TINY, "--num-classes", "7"), "it has 5 classes, the model 7"),
        ((*TINY, "--set", "num_focus=4"), "missing (classifier.local_classifiers.3.1"),
        ((*TINY, "--set", "patch_sise=96"), "did you mean 'patch_size'?"),
        ((*TINY, "--set", "patch_size=large"), "the model argument patch_size=large: "),
        ((*TINY, "--set", "patch_size"), "write NAME=VALUE"),
        ((*TINY, "--base", "ours"), "give --part"),
        ((*TINY, "--part", "local_encoder"), "give --num-classes or --classes"),
        (
            (*TINY, "--part", "local_encoder", "--num-classes", "5"),
            "it belongs to a whole uni_adafocus, not to an encoder",
        ),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(convert, theirs, tmp_path, words, message):
    status, text = convert(theirs, tmp_path / "ours", *words)
    assert status == 2
    (complaint,) = complaints(text)
    assert message in complaint
    assert [path.name for path in tmp_path.iterdir()] == ["theirs.pth.tar"]


def test_a_truncated_file_leaves_nothing(convert, theirs, tmp_path):
    theirs.write_bytes(theirs.read_bytes()[:5000])
    status, text = convert(theirs, tmp_path / "ours", *TINY)
    assert status == 2
    (complaint,) = complaints(text)
    assert "damaged" in complaint
    assert [path.name for path in tmp_path.iterdir()] == ["theirs.pth.tar"]


def test_a_failed_write_leaves_nothing(theirs, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("adafocus_jax.config.pytorch.Checkpoints.save", full)
    assert main(["convert", str(theirs), str(tmp_path / "ours"), *TINY]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["theirs.pth.tar"]


def test_ours_is_compared_with_what_the_command_line_says(convert, theirs, tmp_path):
    assert convert(theirs, tmp_path / "ours", *TINY)[0] == 0
    for words, message in (
        (("--set", "patch_size=96"), "the checkpoint's model has patch_size 32, not 96"),
        (("--model", "uni_adafocus"), "has name uni_adafocus_tiny, not uni_adafocus: leave it out"),
        (("--num-classes", "7"), "has num_classes 5, not 7"),
    ):
        status, text = convert(tmp_path / "ours", tmp_path / "back.pth", "--to-torch", *words)
        assert (status, text.count("\n")) == (2, 1)
        assert message in text
    status, text = convert(theirs, tmp_path / "ours", *TINY)
    assert status == 2
    assert "exists already" in text
    assert {path.name for path in tmp_path.iterdir()} == {"theirs.pth.tar", "ours"}

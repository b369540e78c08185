"""Whole models, converted, against the release in PyTorch: evaluation, and one training step with given draws."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adafocus_jax.checkpoint.convert import convert_state_dict
from adafocus_jax.losses import uni_adafocus_loss
from adafocus_jax.models import create_model, sample_draws
from adafocus_jax.ops.normalize import MEAN, STD
from adafocus_jax.types import VideoBatch

torch = pytest.importorskip("torch", reason="parity tests need PyTorch (pip install torch)")

PUBLISHED = ("uni_adafocus", "uni_adafocus_tsm", "uni_adafocus_x3d")
NORM_RATIO, KL_RATIO = 0.5, 0.1


@pytest.fixture(autouse=True)
def _compile_fast():
    """The programs are large and run once."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def published(release, name):
    r = release
    if name == "uni_adafocus":
        encoders = r.MobileNetV2(classifier=True), r.ResNet(classifier=True)
        return r.PooledExits(r.Sizes(16, 48, 16, 200), *encoders)
    if name == "uni_adafocus_tsm":
        return r.TwoHeadsTSM(r.Sizes(8, 36, 12, 174), r.MobileNetV2(shift=8), r.ResNet(shift=12))
    encoders = r.X3D(2.2, classes=400), r.X3D(5.0, classes=400)
    return r.TwoHeadsX3D(r.Sizes(16, 96, 32, 400, glance_side=160), *encoders)


def tiny(release, name):
    """The counterpart of ``create_model(f"{name}_tiny", num_classes=5)``."""
    r = release
    sizes = r.Sizes(8, 16, 3, 5, 32, image=96, glance_side=48, smallest=32, largest=42, hidden=32)
    rows = {"rows": ((32, 1, 2), (48, 1, 2), (64, 1, 2)), "stem": (16, 3, 1), "bottleneck": False}
    if name == "uni_adafocus":
        mobile = r.MobileNetV2(((1, 8, 1, 1), (6, 16, 1, 2), (6, 24, 1, 2)), 16, 64, classifier=True)
        return r.PooledExits(sizes, mobile, r.ResNet(**rows, classifier=True), 6, 128)
    if name == "uni_adafocus_tsm":
        mobile = r.MobileNetV2(((1, 8, 1, 1), (6, 16, 2, 2), (6, 24, 1, 2)), 16, 64, shift=8)
        return r.TwoHeadsTSM(sizes, mobile, r.ResNet(**rows, shift=3), 6)
    encoders = (r.X3D(1.0, (8, 16), (1, 2), classes=5, hidden=32) for _ in range(2))
    return r.TwoHeadsX3D(sizes, *encoders, 6)


def videos(model, count):
    """A batch of coarse noise for us, and the same normalised for PyTorch."""
    sizes, rng = model.sizes, np.random.default_rng(0)

    def noise(frames):
        coarse = rng.integers(0, 256, (count, frames, sizes.image // 8, sizes.image // 8, 3), dtype=np.uint8)
        return coarse.repeat(8, axis=2).repeat(8, axis=3)

    separate = type(model).__name__ != "PooledExits"
    batch = VideoBatch(frames=noise(sizes.candidates), glance=noise(sizes.glance) if separate else None)
    return batch, [None if x is None else normalized(x) for x in (batch.frames, batch.glance)]


def normalized(frames):
    x = (frames.astype(np.float32) / 255 - MEAN) / STD
    return torch.from_numpy(np.moveaxis(x, -1, -3).copy())


@torch.no_grad()
def randomized(module, *inputs):
    """Random weights, and norm statistics at random about those of ``inputs``, so that no layer saturates."""
    generator = torch.Generator().manual_seed(0)

    def normal(tensor):
        return torch.randn(tensor.shape, generator=generator)

    norms = [layer for layer in module.modules() if hasattr(layer, "running_var")]
    for parameter in module.parameters():
        vector = parameter.ndim == 1
        parameter.copy_(0.1 * normal(parameter) if vector else normal(parameter) * (2 / parameter[0].numel()) ** 0.5)
    for layer in norms:
        layer.weight += 1
        layer.momentum = 1.0
    module.train()(*inputs)
    for layer in norms:
        layer.momentum = 0.1
        layer.running_mean += 0.1 * normal(layer.running_mean) * layer.running_var.sqrt()
        layer.running_var *= (0.1 * normal(layer.running_var)).exp()
    return module


def arrays(module):
    return {name: tensor.detach().numpy().copy() for name, tensor in module.state_dict().items()}


def error(actual, expected):
    """The largest difference, relative to the largest value."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    return np.abs(actual - expected).max() / np.abs(expected).max()


def compare(out, theirs, tolerance):
    """All that is named in our output and in theirs; those of two passes are the first one's here."""
    last = theirs.exit_logits[0]
    fields = {"logits": last[:, -1], "exit_logits": last, "local_logits": theirs.local_logits[0]}
    names = ("global_logits", "temporal_logits", "spatial_logits", "frame_weights", "actions", "glance_features")
    fields |= {name: getattr(theirs, name) for name in names} | {"boxes": theirs.boxes[0]}
    errors = {name: error(getattr(out, name), value.detach()) for name, value in fields.items()}
    assert max(errors.values()) < tolerance, errors
    np.testing.assert_array_equal(out.frame_indices, theirs.frame_indices)
    np.testing.assert_array_equal(np.argmax(out.exit_logits, -1), last.argmax(-1))


@pytest.mark.parametrize("name", PUBLISHED)
def test_evaluation(release, golden_dir, name):
    theirs = published(release, name)
    expected = json.loads((golden_dir / f"{name}.state_dict.json").read_text("utf-8"))
    assert {key: list(tensor.shape) for key, tensor in theirs.state_dict().items()} == expected
    batch, inputs = videos(theirs, 1)
    theirs = randomized(theirs, *inputs).eval()
    model = create_model(name, num_classes=theirs.sizes.classes)
    variables = convert_state_dict(arrays(theirs), model)
    out = jax.jit(lambda variables, batch: model.apply(variables, batch))(variables, batch)
    with torch.no_grad():
        compare(out, theirs(*inputs), 1e-4)
    assert len(np.unique(np.diff(out.frame_indices))) > 1  # not the uniform ones
    assert np.all((0.01 < out.actions) & (out.actions < 0.99))

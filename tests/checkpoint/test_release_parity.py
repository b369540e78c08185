"""Whole models, converted, against the release in PyTorch: evaluation, and one training step with given draws."""

import json
from functools import partial
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from adafocus_jax.checkpoint import load_checkpoint
from adafocus_jax.checkpoint.convert import convert_state_dict
from adafocus_jax.cli.main import main
from adafocus_jax.config import make_model
from adafocus_jax.losses import uni_adafocus_loss
from adafocus_jax.models import create_model, sample_draws
from adafocus_jax.ops.normalize import MEAN, STD
from adafocus_jax.types import VideoBatch

torch = pytest.importorskip("torch", reason="parity tests need PyTorch (pip install torch)")

PUBLISHED = ("uni_adafocus", "uni_adafocus_tsm", "uni_adafocus_x3d")
NORM_RATIO, KL_RATIO = 0.5, 0.1
GIVEN = ("glance_offsets", "thresholds", "positions", "gumbel")
"""Draws that both sides get; the rest is dropout, which is off."""


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
    """A batch of smooth noise for us, and the same normalised for PyTorch."""
    sizes, rng = model.sizes, np.random.default_rng(0)

    def noise(frames):
        shape = (count * frames, 3, 7, 7)
        coarse = torch.from_numpy(rng.uniform(0, 255, shape).astype(np.float32))
        fine = torch.nn.functional.interpolate(coarse, sizes.image, mode="bilinear").permute(0, 2, 3, 1)
        return fine.unflatten(0, (count, frames)).numpy().astype(np.uint8)

    batch = VideoBatch(frames=noise(sizes.candidates), glance=noise(sizes.glance) if model.one_box else None)
    return batch, [None if x is None else normalized(x) for x in (batch.frames, batch.glance)]


def normalized(frames):
    x = (frames.astype(np.float32) / 255 - MEAN) / STD
    return torch.from_numpy(np.moveaxis(x, -1, -3).copy())


@torch.no_grad()
def randomized(module, *inputs):
    """Random weights and norm statistics; in the policies about those of ``inputs``, so that none saturates.

    Not in the encoders: the norm of a channel that hardly varies magnifies rounding, and PyTorch in float32 would be
    far from itself in float64.
    """
    generator = torch.Generator().manual_seed(0)

    def normal(tensor):
        return torch.randn(tensor.shape, generator=generator)

    for parameter in module.parameters():
        fan_in = parameter[0].numel() if parameter.ndim > 1 else 100
        parameter.copy_(normal(parameter) / fan_in**0.5)
    norms = {name: layer for name, layer in module.named_modules() if hasattr(layer, "running_var")}
    for layer in norms.values():
        layer.weight += 1
    module.eval()
    seen = [layer for name, layer in norms.items() if "policy" in name]
    for layer in seen:
        layer.train().momentum = 1.0
    if seen:
        module.temporal_policy.Tconv[-1].weight *= 0.3
        module(*inputs)
    for layer in norms.values():
        layer.momentum = 0.1
        layer.running_mean += 0.1 * normal(layer.running_mean) * layer.running_var.sqrt()
        layer.running_var *= (0.2 * normal(layer.running_var)).exp()
    return module.eval()


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
    names = (
        "global_logits",
        "temporal_logits",
        "spatial_logits",
        "frame_weights",
        "actions",
        "glance_features",
    )
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
    theirs = randomized(theirs, *inputs)
    model = create_model(name, num_classes=theirs.sizes.classes)
    variables = convert_state_dict(arrays(theirs), model)
    out = jax.jit(lambda variables, batch: model.apply(variables, batch))(variables, batch)
    with torch.no_grad():
        compare(out, theirs(*inputs), 1e-4)
    assert len(np.unique(np.diff(out.frame_indices))) > 1  # not the uniform ones
    assert np.all((out.actions > 0.001) & (out.actions < 0.999))


CLASSIFIERS = {  # the encoder, and frames and image where fewer will do
    "tsm_mobilenet_v2": (lambda r: r.MobileNetV2(shift=8), {}),
    "tsm_resnet50": (lambda r: r.ResNet(shift=8), {}),
    "x3d_s": (lambda r: r.X3D(2.2, classes=9), {}),
    # x3d_l is whole in uni_adafocus_x3d above; its classifier is that of x3d_s.
}


@pytest.mark.parametrize("name", CLASSIFIERS)
@torch.no_grad()
def test_plain_classifier(release, name):
    encoder, arguments = CLASSIFIERS[name]
    model, theirs = create_model(name, num_classes=9, **arguments), randomized(encoder(release))
    rng = np.random.default_rng(0)
    side = model.image_size
    frames = rng.integers(0, 256, (1, model.num_candidates, side, side, 3), dtype=np.uint8)
    features = theirs(normalized(frames)).mean((3, 4))
    if name.startswith("x3d"):
        expected, tensors = theirs.classify(features), arrays(theirs)
    else:
        linear = torch.nn.Linear(theirs.width, 9)
        expected = linear(features).mean(1)
        whole = torch.nn.ModuleDict({"base_model": theirs, "new_fc": linear})
        tensors = arrays(whole)
    variables = convert_state_dict(tensors, model)
    out = jax.jit(lambda variables, frames: model.apply(variables, VideoBatch(frames=frames)))(
        variables, frames
    )
    assert error(out.logits, expected) < 1e-4


def our_step(model, variables, batch, draws, labels):
    """Terms, gradients, running statistics and output of a training step."""

    def loss(params):
        changed = {**variables, "params": params}
        out, updates = model.apply(changed, batch, train=True, draws=draws, mutable=["batch_stats"])
        losses = uni_adafocus_loss(out, labels, {"norm": NORM_RATIO, "kl": KL_RATIO}).mean()
        terms = {"total": losses.total, **losses.terms}
        return losses.total, (terms, updates["batch_stats"], out)

    gradients, (terms, statistics, out) = jax.grad(loss, has_aux=True)(variables["params"])
    return terms, gradients, statistics, out


def their_step(release, theirs, inputs, draws, labels, model):
    """The same, in our layout."""
    drawn = {
        name: torch.tensor(np.asarray(x))
        for name, x in vars(draws).items()
        if name in GIVEN and x is not None
    }
    out = theirs.train()(*inputs, draws=SimpleNamespace(**dict.fromkeys(GIVEN) | drawn))
    terms = release.loss_terms(out, torch.tensor(labels), NORM_RATIO, KL_RATIO)
    terms["total"].backward()
    slopes = {  # ImageNet's classifiers have none
        name: torch.zeros_like(p).numpy() if p.grad is None else p.grad.numpy()
        for name, p in theirs.named_parameters()
    }
    moved = convert_state_dict(arrays(theirs) | slopes, model)
    return {name: term.item() for name, term in terms.items()}, moved["params"], moved["batch_stats"], out


def group_error(actual, expected):
    """Norm of the difference of all arrays of a group, relative to the norm of the group."""
    pairs = list(zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True))
    return np.sqrt(sum(np.sum((a - b) ** 2) for a, b in pairs) / sum(np.sum(b**2) for _, b in pairs))


@pytest.mark.parametrize(
    ("name", "estimator"),
    [(name, "monte_carlo" if name == "uni_adafocus" else "exact") for name in PUBLISHED],
)
def test_training_step(release, name, estimator):
    theirs, labels = tiny(release, name), np.array([1, 3])
    batch, inputs = videos(theirs, 2)
    theirs = randomized(theirs, *inputs)
    model = create_model(f"{name}_tiny", num_classes=5, temporal_estimator=estimator)  # its dropout is 0
    variables, draws = convert_state_dict(arrays(theirs), model), sample_draws(jax.random.key(5), model, 2)
    step = jax.jit(partial(our_step, model))
    terms, gradients, statistics, out = jax.device_get(step(variables, batch, draws, labels))
    expected = their_step(release, theirs, inputs, draws, labels, model)
    compare(out, expected[3], 1e-4)
    assert error(out.random.exit_logits, expected[3].exit_logits[1].detach()) < 1e-4
    assert error(out.random.boxes, expected[3].boxes[1]) < 1e-4
    found = {term: abs(float(terms[term]) / value - 1) for term, value in expected[0].items()}
    for what, ours, leaves in (("gradient", gradients, expected[1]), ("statistics", statistics, expected[2])):
        found |= {f"{what} of {group}": group_error(ours[group], leaves[group]) for group in leaves}
    assert max(found.values()) < 1e-4, found


@torch.no_grad()
def test_a_released_file_goes_through_the_command(release, tmp_path):
    theirs = tiny(release, "uni_adafocus_x3d")
    batch, inputs = videos(theirs, 1)
    theirs = randomized(theirs, *inputs)
    optimizer = torch.optim.SGD(theirs.parameters(), 0.1, momentum=0.9)
    for parameter in theirs.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = {f"module.{key}": tensor.clone() for key, tensor in theirs.state_dict().items()}
    expected = theirs(*inputs)
    optimizer.step()
    content = {"epoch": 50, "arch": "resnet50", "state_dict": before, "best_prec1": torch.tensor(75.3)}
    torch.save(content | {"optimizer": optimizer.state_dict(), "scaler": {}}, tmp_path / "k400.pth.tar")
    words = [str(tmp_path / "k400.pth.tar"), str(tmp_path / "ours"), "--model", "uni_adafocus_x3d_tiny"]
    assert main(["convert", *words]) == 0
    loaded = load_checkpoint(tmp_path / "ours")
    model = make_model(loaded.config)
    compare(jax.jit(lambda v, b: model.apply(v, b))(loaded.variables, batch), expected, 1e-4)

"""Converted weights compute what PyTorch computes, in networks built from torch.nn under the names they ship with."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adafocus_jax.checkpoint.convert import convert_state_dict, to_state_dict
from adafocus_jax.models import create_model, init_variables
from adafocus_jax.models.classifier import PoolingClassifier
from adafocus_jax.models.mobilenet_v2 import MobileNetV2, MobileNetV2Settings
from adafocus_jax.models.policies import SpatialPolicy, TemporalPolicy
from adafocus_jax.models.resnet import ResNet, ResNetSettings
from adafocus_jax.models.x3d import X3D, X3D_TINY

torch = pytest.importorskip("torch", reason="parity tests need PyTorch (pip install torch)")
nn = torch.nn

BLOCKS = ((1, 8, 1, 1), (6, 16, 2, 2), (6, 24, 1, 2))
CHAIN = ((16, 8, 1, 1), (8, 16, 6, 2), (16, 16, 6, 1), (16, 24, 6, 2))  # inputs, outputs, expansion, stride


def randomized(module):
    """With random weights and norm statistics, in evaluation mode."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            fan_in = max(1, tensor[0].numel()) if tensor.ndim > 1 else 1
            tensor.copy_(torch.randn(tensor.shape, generator=generator) / fan_in**0.5)
            if tensor.ndim == 1 and name.endswith(("weight", "running_var")):
                tensor.abs_().add_(0.5)
    return module.eval()


def arrays(module, prefix=""):
    return {prefix + name: tensor.numpy() for name, tensor in module.state_dict().items()}


def assert_close(actual, expected, relative):
    expected = expected.detach().numpy()
    assert np.abs(np.asarray(actual) - expected).max() <= relative * np.abs(expected).max()


def evaluate(ours, variables, *inputs, **options):
    return jax.jit(lambda variables, *inputs: ours.apply(variables, *inputs, **options))(variables, *inputs)


def random_input(*shape):
    return np.random.default_rng(1).standard_normal(shape, dtype=np.float32)


def channels_first(x):
    return torch.from_numpy(np.moveaxis(x, -1, 1))


class Shift(nn.Module):
    """TSM's wrapper of a convolution: frames of 4-frame videos along the batch axis."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        x, fold = x.unflatten(0, (-1, 4)), x.shape[1] // 8
        y = torch.zeros_like(x)
        y[:, :-1, :fold] = x[:, 1:, :fold]
        y[:, 1:, fold : 2 * fold] = x[:, :-1, fold : 2 * fold]
        y[:, :, 2 * fold :] = x[:, :, 2 * fold :]
        return self.net(y.flatten(0, 1))


def conv_bn(inputs, outputs, size=1, stride=1, groups=1, relu=True):
    conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outputs), *([nn.ReLU6()] if relu else [])]


class InvertedResidual(nn.Module):
    """Of tonylins (one flat sequence), of torchvision (nested), or of TSM (flat, the first layer shifted)."""

    def __init__(self, inputs, outputs, expansion, stride, style):
        super().__init__()
        hidden, self.residual = inputs * expansion, stride == 1 and inputs == outputs
        parts = [conv_bn(inputs, hidden)] if expansion > 1 else []
        if style == "tsm" and self.residual and parts:
            parts[0][0] = Shift(parts[0][0])
        parts += [conv_bn(hidden, hidden, 3, stride, hidden)]
        if style == "torchvision":
            parts = [[nn.Sequential(*part)] for part in parts]
        parts += [conv_bn(hidden, outputs, relu=False)]
        self.conv = nn.Sequential(*(layer for part in parts for layer in part))

    def forward(self, x):
        return x + self.conv(x) if self.residual else self.conv(x)


def mobilenet_v2(style):
    stem, last = nn.Sequential(*conv_bn(3, 16, 3, 2)), nn.Sequential(*conv_bn(24, 64))
    blocks = [InvertedResidual(*row, style) for row in CHAIN]
    return nn.ModuleDict({"features": nn.Sequential(stem, *blocks, last)})


@pytest.mark.parametrize("style", ["tonylins", "torchvision", "tsm"])
def test_mobilenet_v2(style):
    theirs = randomized(mobilenet_v2(style))
    ours = MobileNetV2(settings=MobileNetV2Settings(16, BLOCKS, 64), shift=style == "tsm")
    variables = convert_state_dict(arrays(theirs, "base_model." if style == "tsm" else ""), ours)
    x = random_input(2, 4, 33, 30, 3)
    expected = theirs["features"](channels_first(x.reshape(8, 33, 30, 3))).mean((2, 3)).unflatten(0, (2, 4))
    assert_close(evaluate(ours, variables, x, train=False).pooled, expected, 1e-4)


class ResidualBlock(nn.Module):
    def __init__(self, inputs, width, stride, bottleneck, shift):
        super().__init__()
        outputs = 4 * width if bottleneck else width
        sizes = [(width, 1, 1), (width, 3, stride), (outputs, 1, 1)]
        for number, (channels, size, step) in enumerate(
            sizes if bottleneck else [(width, 3, stride), (width, 3, 1)]
        ):
            before = inputs if number == 0 else width
            conv, bn = conv_bn(before, channels, size, step, relu=False)
            self.add_module(f"conv{number + 1}", Shift(conv) if shift and number == 0 else conv)
            self.add_module(f"bn{number + 1}", bn)
        self.depth, self.downsample = number + 1, None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(*conv_bn(inputs, outputs, 1, stride, relu=False))

    def forward(self, x):
        y = x
        for number in range(1, self.depth + 1):
            y = getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(y if number == 1 else y.relu()))
        return (y + (x if self.downsample is None else self.downsample(x))).relu()


@pytest.mark.parametrize("bottleneck", [False, True], ids=["basic", "bottleneck"])
@pytest.mark.parametrize("shift", [False, True], ids=["plain", "shift"])
def test_resnet(bottleneck, shift):
    stem = dict(zip(("conv1", "bn1", "relu"), (*conv_bn(3, 16, 7, 2, relu=False), nn.ReLU()), strict=True))
    widths = (32, 64) if bottleneck else (8, 16)
    stages = {
        "layer1": nn.Sequential(ResidualBlock(16, 8, 1, bottleneck, shift)),
        "layer2": nn.Sequential(
            ResidualBlock(widths[0], 16, 2, bottleneck, shift),
            ResidualBlock(widths[1], 16, 1, bottleneck, shift),
        ),
    }
    theirs = randomized(nn.Sequential().append(nn.ModuleDict(stem | stages)))[0]
    ours = ResNet(settings=ResNetSettings(((8, 1, 1), (16, 2, 2)), bottleneck, stem=16), shift=shift)
    variables = convert_state_dict(arrays(theirs, "base_model." if shift else ""), ours)
    x = random_input(2, 4, 33, 30, 3)
    y = channels_first(x.reshape(8, 33, 30, 3))
    for name, layer in theirs.items():
        y = nn.functional.max_pool2d(layer(y), 3, 2, 1) if name == "relu" else layer(y)
    assert_close(evaluate(ours, variables, x, train=False).pooled, y.mean((2, 3)).unflatten(0, (2, 4)), 1e-4)


def conv3d(inputs, outputs, size=(1, 1, 1), stride=1, groups=1, bias=False):
    padding = tuple(extent // 2 for extent in size)
    return nn.Conv3d(inputs, outputs, size, (1, stride, stride), padding, groups=groups, bias=bias)


class X3DBlock(nn.Module):
    def __init__(self, inputs, outputs, stride, squeeze):
        super().__init__()
        inner = int(2.25 * outputs)
        self.branch1, self.branch1_bn = conv3d(inputs, outputs, stride=stride), nn.BatchNorm3d(outputs)
        if stride == 1 and inputs == outputs:
            del self.branch1, self.branch1_bn
        layers = {"a": conv3d(inputs, inner), "a_bn": nn.BatchNorm3d(inner)}
        layers |= {"b": conv3d(inner, inner, (3, 3, 3), stride, inner), "b_bn": nn.BatchNorm3d(inner)}
        if squeeze:
            dense = {"fc1": conv3d(inner, 8, bias=True), "fc2": conv3d(8, inner, bias=True)}
            layers["se"] = nn.ModuleDict(dense)
        self.branch2 = nn.ModuleDict(layers | {"c": conv3d(inner, outputs), "c_bn": nn.BatchNorm3d(outputs)})

    def forward(self, x):
        layers = self.branch2
        y = layers["a_bn"](layers["a"](x)).relu()
        y = layers["b_bn"](layers["b"](y))
        if "se" in layers:
            squeezed = layers["se"]["fc1"](y.mean((2, 3, 4), keepdim=True)).relu()
            y = y * layers["se"]["fc2"](squeezed).sigmoid()
        y = layers["c_bn"](layers["c"](nn.functional.silu(y)))
        return (y + (self.branch1_bn(self.branch1(x)) if hasattr(self, "branch1") else x)).relu()


def test_x3d():
    stem = {
        "conv_xy": conv3d(3, 8, (1, 3, 3), 2),
        "conv": conv3d(8, 8, (5, 1, 1), groups=8),
        "bn": nn.BatchNorm3d(8),
    }
    theirs = nn.ModuleDict(
        {
            "s1": nn.ModuleDict({"pathway0_stem": nn.ModuleDict(stem)}),
            "s2": nn.ModuleDict({"pathway0_res0": X3DBlock(8, 8, 2, True)}),
            "s3": nn.ModuleDict(
                {"pathway0_res0": X3DBlock(8, 16, 2, True), "pathway0_res1": X3DBlock(16, 16, 1, False)}
            ),
            "head": nn.ModuleDict({"conv_5": conv3d(16, 36), "conv_5_bn": nn.BatchNorm3d(36)}),
        }
    )
    theirs = randomized(theirs)
    ours = X3D(settings=X3D_TINY)
    x = random_input(2, 4, 32, 32, 3)
    y = channels_first(x)
    for layer in theirs["s1"]["pathway0_stem"].values():
        y = layer(y)
    y = y.relu()
    for block in (*theirs["s2"].values(), *theirs["s3"].values()):
        y = block(y)
    for layer in theirs["head"].values():
        y = layer(y)
    variables = convert_state_dict(arrays(theirs), ours)
    assert_close(
        evaluate(ours, variables, x, train=False).pooled, y.relu().mean((3, 4)).transpose(1, 2), 1e-4
    )


@pytest.fixture(scope="module")
def converted():
    """Variables of a tiny model, with the tensors of a torch module put among the others."""
    model = create_model("uni_adafocus_tiny", num_classes=5)
    shapes = jax.eval_shape(lambda: init_variables(model, jax.random.key(0)))
    state_dict = to_state_dict(jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), shapes), model)

    def convert(module, prefix, path):
        variables = convert_state_dict(state_dict | arrays(module, prefix), model)
        return {kind: tree[path] for kind, tree in variables.items()}

    return convert


def test_spatial_policy(converted):
    first = [conv3d(64, 32), nn.BatchNorm3d(32), nn.ReLU()]
    middle = [layer for _ in range(2) for layer in (conv3d(32, 32, (3, 3, 3)), nn.BatchNorm3d(32), nn.ReLU())]
    theirs = randomized(nn.Sequential(*first, *middle, nn.Conv3d(32, 4, (1, 6, 6), bias=False)))
    x = random_input(2, 8, 6, 6, 64)
    expected = theirs(channels_first(x))[..., 0, 0].transpose(1, 2).sigmoid()
    variables = converted(theirs, "spatial_policy.encoder.", "spatial_policy")
    assert_close(evaluate(SpatialPolicy(32), variables, x, train=False), expected, 1e-5)


def test_temporal_policy(converted):
    def conv(inputs, outputs, size):
        return nn.Conv2d(inputs, outputs, (size, 1), padding=(size // 2, 0), bias=False)

    hidden = [(conv(64, 64, 3), nn.BatchNorm2d(64), nn.ReLU()) for _ in range(2)]
    theirs = randomized(nn.Sequential(*hidden[0], *hidden[1], conv(64, 1, 1)))
    x = random_input(2, 8, 64)
    expected = theirs(torch.from_numpy(x).transpose(1, 2)[..., None])[:, 0, :, 0]
    variables = converted(theirs, "temporal_policy.Tconv.", "temporal_policy")
    assert_close(evaluate(TemporalPolicy(64), variables, x, train=False), expected, 1e-5)


def test_pooling_classifier(converted):
    def mlp():
        return nn.ModuleDict({"layers": nn.Sequential(nn.Linear(64, 128), nn.BatchNorm1d(128), nn.ReLU())})

    def heads(count, width):
        return nn.ModuleList(nn.Sequential(nn.Dropout(), nn.Linear(width, 5)) for _ in range(count))

    parts = {"global_mlp": mlp(), "local_mlp": mlp()}
    parts |= {"global_classifiers": heads(8, 128), "local_classifiers": heads(3, 256)}
    theirs = randomized(nn.ModuleDict(parts))
    glance, focus = random_input(2, 8, 64), random_input(2, 3, 64)

    def pooled(features, part):
        layers = theirs[part]["layers"]
        return layers(torch.from_numpy(features).flatten(0, 1)).unflatten(0, features.shape[:2]).cummax(1)[0]

    maxima, local = pooled(glance, "global_mlp"), pooled(focus, "local_mlp")
    exits = [head(maxima[:, g]) for g, head in enumerate(theirs["global_classifiers"])]
    exits += [
        head(torch.cat([local[:, f], maxima[:, -1]], 1)) for f, head in enumerate(theirs["local_classifiers"])
    ]
    ours = PoolingClassifier(5, 128)

    def forward(module, glance, focus):
        maxima = module.pool_glance(glance, False)
        late = module.focus_exits(focus, maxima, None, False)
        return jnp.concatenate([module.glance_exits(maxima, None, False), late], axis=1)

    variables = converted(theirs, "classifier.", "classifier")
    actual = evaluate(ours, variables, glance, focus, method=forward)
    assert_close(actual, torch.stack(exits, 1), 1e-5)

"""Encoders from ``[B, T, 3, H, W]`` to feature maps ``[B, T, D, h, w]``, under the names of their code bases."""

import math

import pytest

torch = pytest.importorskip("torch", reason="parity tests need PyTorch (pip install torch)")
nn = torch.nn

IMAGENET_CLASSES = 1000
MOBILENET_V2 = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""Rows of expansion, channels, repeats and stride of the first (Sandler et al., table 2)."""


class Shift(nn.Module):
    """TSM's wrapper of the convolution ``net``: an eighth of the channels from the next frame, one from the last."""

    def __init__(self, net, frames):
        super().__init__()
        self.net, self.frames = net, frames

    def forward(self, x):
        videos = x.unflatten(0, (-1, self.frames))
        nothing = torch.zeros_like(videos[:, :1])
        coming, gone = torch.cat([videos[:, 1:], nothing], 1), torch.cat([nothing, videos[:, :-1]], 1)
        eighth = x.shape[1] // 8
        parts = coming[:, :, :eighth], gone[:, :, eighth : 2 * eighth], videos[:, :, 2 * eighth :]
        return self.net(torch.cat(parts, 2).flatten(0, 1))


def conv_bn(inputs, outputs, size=1, stride=1, groups=1):
    conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outputs)]


class InvertedResidual(nn.Module):
    """One flat sequence ``conv`` (tonylins, TSM), or one nested by convolution (torchvision)."""

    def __init__(self, inputs, outputs, expansion, stride, nested, shift):
        super().__init__()
        inner = expansion * inputs
        self.sum = inputs == outputs and stride == 1
        parts = [[*conv_bn(inputs, inner), nn.ReLU6()]] if expansion != 1 else []
        if shift and self.sum and expansion != 1:
            parts[0][0] = Shift(parts[0][0], shift)
        parts.append([*conv_bn(inner, inner, 3, stride, inner), nn.ReLU6()])
        layers = [nn.Sequential(*part) for part in parts] if nested else [x for part in parts for x in part]
        self.conv = nn.Sequential(*layers, *conv_bn(inner, outputs))

    def forward(self, x):
        return x + self.conv(x) if self.sum else self.conv(x)


class MobileNetV2(nn.Module):
    """``shift``: frames per video of TSM, 0 for none."""

    def __init__(self, rows=MOBILENET_V2, stem=32, last=1280, *, shift=0, nested=False, classifier=False):
        super().__init__()
        layers, width = [nn.Sequential(*conv_bn(3, stem, 3, 2), nn.ReLU6())], stem
        for expansion, channels, repeats, stride in rows:
            for repeat in range(repeats):
                step = 1 if repeat else stride
                layers.append(InvertedResidual(width, channels, expansion, step, nested, shift))
                width = channels
        self.features = nn.Sequential(*layers, nn.Sequential(*conv_bn(width, last), nn.ReLU6()))
        self.width = last
        if classifier:
            self.classifier = nn.Linear(last, IMAGENET_CLASSES)

    def forward(self, video):
        return self.features(video.flatten(0, 1)).unflatten(0, video.shape[:2])


class Residual(nn.Module):
    """A bottleneck of 1×1, 3×3, 1×1, or two 3×3."""

    def __init__(self, inputs, width, stride, bottleneck, shift):
        super().__init__()
        outputs = width * 4 if bottleneck else width
        if bottleneck:
            self.conv1, self.bn1 = conv_bn(inputs, width)
            self.conv2, self.bn2 = conv_bn(width, width, 3, stride)
            self.conv3, self.bn3 = conv_bn(width, outputs)
        else:
            self.conv1, self.bn1 = conv_bn(inputs, width, 3, stride)
            self.conv2, self.bn2 = conv_bn(width, outputs, 3)
        if shift:
            self.conv1 = Shift(self.conv1, shift)
        if stride > 1 or inputs != outputs:
            self.downsample = nn.Sequential(*conv_bn(inputs, outputs, 1, stride))

    def forward(self, x):
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        if hasattr(self, "conv3"):
            y = self.bn3(self.conv3(y.relu()))
        return (y + (self.downsample(x) if hasattr(self, "downsample") else x)).relu()


class ResNet(nn.Module):
    """Rows of width, blocks and stride. ``shift``: frames per video of TSM, 0 for none."""

    def __init__(
        self,
        rows=((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)),
        stem=(64, 7, 2),
        *,
        bottleneck=True,
        shift=0,
        classifier=False,
    ):
        super().__init__()
        channels, size, stride = stem
        self.conv1, self.bn1 = conv_bn(3, channels, size, stride)
        self.pool = nn.MaxPool2d(3, 2, 1) if stride > 1 else nn.Identity()
        self.stages = len(rows)
        for stage, (width, count, step) in enumerate(rows, start=1):
            blocks = []
            for block in range(count):
                blocks.append(Residual(channels, width, 1 if block else step, bottleneck, shift))
                channels = width * 4 if bottleneck else width
            self.add_module(f"layer{stage}", nn.Sequential(*blocks))
        self.width = channels
        if classifier:
            self.fc = nn.Linear(channels, IMAGENET_CLASSES)

    def forward(self, video):
        x = self.pool(self.bn1(self.conv1(video.flatten(0, 1))).relu())
        for stage in range(1, self.stages + 1):
            x = self.get_submodule(f"layer{stage}")(x)
        return x.unflatten(0, video.shape[:2])


def conv3d(inputs, outputs, size=1, stride=1, groups=1, bias=False):
    size = (size,) * 3 if isinstance(size, int) else size
    padding = [extent // 2 for extent in size]
    return nn.Conv3d(inputs, outputs, size, (1, stride, stride), padding, 1, groups, bias)


def eights(width):
    """The nearest multiple of eight that keeps nine tenths of the width."""
    nearest = max(8, math.floor(width / 8 + 0.5) * 8)
    return nearest if nearest >= 0.9 * width else nearest + 8


class X3DBlock(nn.Module):
    """Of SlowFast: ``branch2`` expands, convolves channel by channel in time and space, squeezes, projects."""

    def __init__(self, inputs, outputs, stride, squeeze):
        super().__init__()
        inner = int(outputs * 2.25)
        if stride > 1 or inputs != outputs:
            self.branch1, self.branch1_bn = conv3d(inputs, outputs, 1, stride), nn.BatchNorm3d(outputs)
        b = self.branch2 = nn.Module()
        b.a, b.a_bn = conv3d(inputs, inner), nn.BatchNorm3d(inner)
        b.b, b.b_bn = conv3d(inner, inner, 3, stride, inner), nn.BatchNorm3d(inner)
        b.c, b.c_bn = conv3d(inner, outputs), nn.BatchNorm3d(outputs)
        if squeeze:
            hidden = eights(inner / 16)
            b.se = nn.Module()
            b.se.fc1, b.se.fc2 = conv3d(inner, hidden, bias=True), conv3d(hidden, inner, bias=True)

    def forward(self, x):
        b = self.branch2
        y = b.b_bn(b.b(b.a_bn(b.a(x)).relu()))
        if hasattr(b, "se"):
            y = y * b.se.fc2(b.se.fc1(nn.functional.adaptive_avg_pool3d(y, 1)).relu()).sigmoid()
        y = b.c_bn(b.c(y * y.sigmoid()))
        return (y + (self.branch1_bn(self.branch1(x)) if hasattr(self, "branch1") else x)).relu()


class X3D(nn.Module):
    """SlowFast's, with its classifier ``head`` of ``hidden`` units where ``classes`` are given."""

    def __init__(self, depth, widths=(24, 48, 96, 192), blocks=(1, 2, 5, 3), *, classes=0, hidden=2048):
        super().__init__()
        self.s1, self.head = nn.Module(), nn.Module()
        stem = self.s1.pathway0_stem = nn.Module()
        channels = widths[0]
        stem.conv_xy = conv3d(3, channels, (1, 3, 3), 2)
        stem.conv = conv3d(channels, channels, (5, 1, 1), groups=channels)
        stem.bn = nn.BatchNorm3d(channels)
        self.path = []
        for stage, (width, count) in enumerate(zip(widths, blocks, strict=True), start=2):
            self.add_module(f"s{stage}", nn.Module())
            for block in range(math.ceil(depth * count)):
                name = f"s{stage}.pathway0_res{block}"
                module = X3DBlock(channels, width, 1 if block else 2, block % 2 == 0)
                self.get_submodule(f"s{stage}").add_module(f"pathway0_res{block}", module)
                self.path.append(name)
                channels = width
        self.width = int(channels * 2.25)
        self.head.conv_5, self.head.conv_5_bn = conv3d(channels, self.width), nn.BatchNorm3d(self.width)
        if classes:
            self.head.lin_5, self.head.projection = conv3d(self.width, hidden), nn.Linear(hidden, classes)

    def forward(self, video):
        stem = self.s1.pathway0_stem
        x = stem.bn(stem.conv(stem.conv_xy(video.transpose(1, 2)))).relu()
        for name in self.path:
            x = self.get_submodule(name)(x)
        return self.head.conv_5_bn(self.head.conv_5(x)).relu().transpose(1, 2)

    def classify(self, features):
        """Features ``[B, T, D]``, averaged over space, to logits ``[B, K]``."""
        pooled = features.mean(1)[:, :, None, None, None]
        return self.head.projection(self.head.lin_5(pooled).relu().flatten(1))

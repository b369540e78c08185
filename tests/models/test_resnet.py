import jax
import jax.numpy as jnp
import pytest

from adafocus_jax.models.resnet import RESNET18, RESNET50, RESNET_TINY, ResidualBlock, ResNet, ResNetSettings


def conv_bn(torch, prefix, conv, norm, inputs, outputs, size, stride=1):
    return {
        prefix + conv: torch.nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False),
        prefix + norm: torch.nn.BatchNorm2d(outputs),
    }


def block_layers(torch, inputs, width, stride, bottleneck, prefix=""):
    outputs = 4 * width if bottleneck else width
    sizes = [(inputs, width, 3, stride), (width, width, 3, 1)]
    if bottleneck:
        sizes = [(inputs, width, 1, 1), (width, width, 3, stride), (width, outputs, 1, 1)]
    layers = {}
    for number, size in enumerate(sizes, start=1):
        layers |= conv_bn(torch, prefix, f"conv{number}", f"bn{number}", *size)
    if stride != 1 or inputs != outputs:
        layers |= conv_bn(torch, prefix, "downsample", "downsample_bn", inputs, outputs, 1, stride)
    return layers


def block_forward(layers, x, over_frames, shift=None, prefix=""):
    def apply(x, conv, norm):
        return over_frames(lambda x: layers[prefix + norm](layers[prefix + conv](x)), x)

    y = apply(shift(x) if shift else x, "conv1", "bn1").relu()
    y = apply(y, "conv2", "bn2")
    if f"{prefix}conv3" in layers:
        y = apply(y.relu(), "conv3", "bn3")
    return (y + (apply(x, "downsample", "downsample_bn") if f"{prefix}downsample" in layers else x)).relu()


@pytest.mark.parametrize(
    ("bottleneck", "shift", "stride"),
    [(False, False, 1), (False, True, 2), (True, False, 2), (True, True, 1)],
    ids=["basic", "basic-shift-stride", "bottleneck-stride", "bottleneck-shift"],
)
def test_block_is_torchs(torch, assert_parity, over_frames, shifted, bottleneck, shift, stride):
    width = 4 if bottleneck else 16
    assert_parity(
        ResidualBlock(width, stride, bottleneck, shift),
        block_layers(torch, 16, width, stride, bottleneck),
        lambda layers, x: block_forward(layers, x, over_frames, shifted if shift else None),
        shape=(2, 3, 7, 6, 16),
    )


NETWORKS = {
    "tiny": (RESNET_TINY, False),
    "bottlenecks": (ResNetSettings(((8, 2, 1), (16, 1, 2)), bottleneck=True, stem=8), True),
}


@pytest.mark.parametrize(("settings", "shift"), NETWORKS.values(), ids=NETWORKS)
def test_network_is_torchs(torch, assert_parity, over_frames, shifted, settings, shift):
    s = settings
    layers = conv_bn(torch, "", "conv1", "bn1", 3, s.stem, s.stem_kernel, s.stem_stride)
    channels, blocks = s.stem, []
    for stage, (width, number, stride) in enumerate(s.stages, start=1):
        for block in range(number):
            blocks.append(f"layer{stage}_{block}/")
            layers |= block_layers(
                torch, channels, width, 1 if block else stride, s.bottleneck, prefix=blocks[-1]
            )
            channels = 4 * width if s.bottleneck else width

    def forward(layers, x):
        x = over_frames(lambda x: layers["bn1"](layers["conv1"](x)), x).relu()
        x = over_frames(torch.nn.MaxPool2d(3, 2, 1), x) if s.stem_pool else x
        for block in blocks:
            x = block_forward(layers, x, over_frames, shifted if shift else None, block)
        return x

    ours = ResNet(settings=s, shift=shift)
    assert_parity(ours, layers, forward, shape=(2, 3, 33, 30, 3), relative=1e-4, gradient=1e-3)


@pytest.mark.parametrize("model", ["uni_adafocus", "uni_adafocus_tsm"])
def test_full_network_has_the_released_tensors(released_sizes, sizes_of, model):
    assert sizes_of(ResNet(settings=RESNET50)) == released_sizes(model, "local_CNN.")


def test_resnet18_has_its_published_size(sizes_of):
    statistics = 2 * 4800  # running mean and variance of 20 norms, 4800 channels in all
    assert (
        sum(sizes_of(ResNet(settings=RESNET18))) - statistics == 11_689_512 - 513_000
    )  # less its classifier


def test_odd_frames_round_up_and_width_multiplies_channels():
    frames = jax.ShapeDtypeStruct((1, 2, 97, 225, 3), jnp.float32)
    encoder = ResNet(width=0.5)
    out, _ = jax.eval_shape(lambda x: encoder.init_with_output(jax.random.key(0), x, train=False), frames)
    assert out.maps.shape == (1, 2, 4, 8, 1024)
    assert out.pooled.shape == (1, 2, 1024)

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adafocus_jax.models.mobilenet_v2 import (
    InvertedResidual,
    MobileNetV2,
    MobileNetV2Settings,
)
from adafocus_jax.ops.platform import lowering_for


def conv_bn(torch, name, inputs, outputs, size=1, stride=1, groups=1):
    conv = torch.nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)
    return {name: conv, f"{name}_bn": torch.nn.BatchNorm2d(outputs)}


def block_layers(torch, inputs, outputs, expansion, stride, prefix=""):
    hidden = inputs * expansion
    expand = conv_bn(torch, f"{prefix}expand", inputs, hidden) if expansion > 1 else {}
    depthwise = conv_bn(torch, f"{prefix}depthwise", hidden, hidden, 3, stride, hidden)
    return expand | depthwise | conv_bn(torch, f"{prefix}project", hidden, outputs)


def block_forward(layers, x, over_frames, shift=None, prefix=""):
    def apply(x, name):
        return over_frames(lambda x: layers[f"{prefix}{name}_bn"](layers[prefix + name](x)), x)

    project, depthwise = layers[f"{prefix}project"], layers[f"{prefix}depthwise"]
    residual = depthwise.stride == (1, 1) and project.out_channels == x.shape[-1]
    y = x
    if f"{prefix}expand" in layers:
        y = apply(shift(x) if shift and residual else x, "expand").clamp(0, 6)
    y = apply(apply(y, "depthwise").clamp(0, 6), "project")
    return x + y if residual else y


@pytest.mark.parametrize(
    ("outputs", "expansion", "stride", "shift"),
    [(16, 6, 1, False), (16, 6, 1, True), (24, 6, 1, True), (16, 6, 2, True), (16, 1, 1, True)],
    ids=["plain", "shift", "wider", "stride", "no-expansion"],
)
def test_block_is_torchs(torch, assert_parity, over_frames, shifted, shift, outputs, expansion, stride):
    ours = InvertedResidual(outputs, expansion, stride, shift)
    layers = block_layers(torch, 16, outputs, expansion, stride)
    assert_parity(
        ours,
        layers,
        lambda layers, x: block_forward(layers, x, over_frames, shifted if shift else None),
        shape=(2, 3, 7, 6, 16),
    )


def test_network_is_torchs(torch, assert_parity, over_frames, shifted, jit_as_for_use):
    rows = ((16, 8, 1, 1), (8, 8, 6, 1), (8, 16, 6, 2))
    layers = conv_bn(torch, "stem", 3, 16, 3, 2) | conv_bn(torch, "last", 16, 24)
    for number, row in enumerate(rows, start=1):
        layers |= block_layers(torch, *row, prefix=f"block{number}/")

    def forward(layers, x):
        ends = [
            lambda x, name=name: over_frames(lambda x: layers[f"{name}_bn"](layers[name](x)), x).clamp(0, 6)
            for name in ("stem", "last")
        ]
        x = ends[0](x)
        for number in range(1, 4):
            x = block_forward(layers, x, over_frames, shifted, f"block{number}/")
        return ends[1](x)

    settings = MobileNetV2Settings(16, ((1, 8, 1, 1), (6, 8, 1, 1), (6, 16, 1, 2)), 24)
    ours = MobileNetV2(settings=settings, shift=True)
    assert_parity(
        ours, layers, forward, shape=(2, 4, 33, 30, 3), relative=1e-4, gradient=1e-3, jit=jit_as_for_use
    )


@pytest.mark.parametrize(
    ("model", "part"), [("uni_adafocus", "global_CNN."), ("uni_adafocus_tsm", "global_CNN.")]
)
def test_full_network_has_the_released_tensors(released_sizes, sizes_of, model, part):
    assert sizes_of(MobileNetV2()) == released_sizes(model, part)


def test_width_multiplies_channels():
    frames = jax.ShapeDtypeStruct((1, 2, 225, 97, 3), jnp.float32)
    for width, features in ((0.5, 1280), (1.4, 1792)):
        out, variables = jax.eval_shape(
            lambda x, width=width: MobileNetV2(width=width).init_with_output(
                jax.random.key(0), x, train=False
            ),
            frames,
        )
        assert out.maps.shape == (1, 2, 8, 4, features)  # 225 and 97 round up at each stride
        assert out.pooled.shape == (1, 2, features)
    assert variables["params"]["stem"]["kernel"].shape == (3, 3, 3, 48)


@pytest.fixture(scope="module")
def frames():
    return np.random.default_rng(0).standard_normal((1, 5, 32, 32, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def features(frames):
    """Pooled features of a small network with random weights; arguments of the encoder and frames may be given."""
    # A block without a residual sum, then one with.
    encoder = MobileNetV2(settings=MobileNetV2Settings(16, ((6, 8, 2, 1),), 8))
    variables = jax.jit(encoder.init, static_argnums=2)(jax.random.key(0), frames, False)

    def compute(frames=frames, **arguments):
        return jax.jit(encoder.clone(**arguments).apply, static_argnums=2)(variables, frames, False).pooled

    return compute


def test_fast_forms_are_the_reference(features, assert_close):
    with lowering_for("cpu"):
        fast = features(shift=True)
    with lowering_for("reference"):
        assert_close(fast, features(shift=True))


@pytest.mark.parametrize(
    ("shift", "affected"), [(False, [True] + 4 * [False]), (True, [True, True] + 3 * [False])]
)
def test_shift_lets_a_frame_see_its_neighbours_alone(features, frames, shift, affected):
    changed = frames.copy()
    changed[:, 0] += 1
    before, after = features(shift=shift)[0], features(changed, shift=shift)[0]
    assert [not np.array_equal(a, b) for a, b in zip(before, after, strict=True)] == affected


def test_bfloat16_activations_stay_close(features):
    exact, half = features(), features(dtype=jnp.bfloat16)
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype(jnp.float32), exact, atol=0.05 * float(exact.max()))

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adafocus_jax.models.x3d import X3D, X3D_L, X3D_S, X3D_TINY, SqueezeExcite, X3DBlock, X3DHead


def conv_bn(torch, name, inputs, outputs, size=(1, 1, 1), stride=1, groups=1):
    padding = [side // 2 for side in size]
    conv = torch.nn.Conv3d(inputs, outputs, size, (1, stride, stride), padding, groups=groups, bias=False)
    return {name: conv, f"{name}_bn": torch.nn.BatchNorm3d(outputs)}


def block_layers(torch, inputs, outputs, stride, squeeze, prefix=""):
    inner = int(2.25 * outputs)
    layers = conv_bn(torch, f"{prefix}expand", inputs, inner)
    layers |= conv_bn(torch, f"{prefix}depthwise", inner, inner, (3, 3, 3), stride, inner)
    layers |= conv_bn(torch, f"{prefix}project", inner, outputs)
    if squeeze:
        layers[f"{prefix}squeeze_excite/reduce"] = torch.nn.Linear(inner, 8)
        layers[f"{prefix}squeeze_excite/expand"] = torch.nn.Linear(8, inner)
    if stride != 1 or inputs != outputs:
        layers |= conv_bn(torch, f"{prefix}shortcut", inputs, outputs, stride=stride)
    return layers


def block_forward(torch, layers, x, prefix=""):
    def apply(x, name):
        return layers[f"{prefix}{name}_bn"](layers[prefix + name](x))

    y = apply(apply(x, "expand").relu(), "depthwise")
    if f"{prefix}squeeze_excite/reduce" in layers:
        hidden = layers[f"{prefix}squeeze_excite/reduce"](y.mean((2, 3, 4))).relu()
        y = y * layers[f"{prefix}squeeze_excite/expand"](hidden).sigmoid()[:, :, None, None, None]
    y = apply(torch.nn.functional.silu(y), "project")
    return (y + (apply(x, "shortcut") if f"{prefix}shortcut" in layers else x)).relu()


def channels_last(function, x):
    return function(x.permute(0, 4, 1, 2, 3)).permute(0, 2, 3, 4, 1)


@pytest.mark.parametrize(
    ("outputs", "stride", "squeeze"),
    [(8, 1, True), (16, 1, False), (8, 2, True)],
    ids=["sum", "wider", "stride"],
)
def test_block_is_torchs(torch, assert_parity, outputs, stride, squeeze):
    assert_parity(
        X3DBlock(outputs, stride, SqueezeExcite if squeeze else None),
        block_layers(torch, 8, outputs, stride, squeeze),
        lambda layers, x: channels_last(lambda x: block_forward(torch, layers, x), x),
        shape=(2, 4, 7, 6, 8),
    )


def test_network_is_torchs(torch, assert_parity):
    layers = {
        "stem_space": torch.nn.Conv3d(3, 8, (1, 3, 3), (1, 2, 2), (0, 1, 1), bias=False),
        "stem_time": torch.nn.Conv3d(8, 8, (5, 1, 1), 1, (2, 0, 0), groups=8, bias=False),
        "stem_bn": torch.nn.BatchNorm3d(8),
        **block_layers(torch, 8, 8, 2, True, "stage1_0/"),
        **block_layers(torch, 8, 16, 2, True, "stage2_0/"),
        **block_layers(torch, 16, 16, 1, False, "stage2_1/"),
        **conv_bn(torch, "last", 16, 36),
    }

    def forward(layers, x):
        x = layers["stem_bn"](layers["stem_time"](layers["stem_space"](x))).relu()
        for block in ("stage1_0/", "stage2_0/", "stage2_1/"):
            x = block_forward(torch, layers, x, block)
        return layers["last_bn"](layers["last"](x)).relu()

    assert_parity(
        X3D(settings=X3D_TINY),
        layers,
        lambda layers, x: channels_last(lambda x: forward(layers, x), x),
        shape=(2, 6, 33, 30, 3),
        relative=1e-4,
        gradient=1e-3,
    )


@pytest.mark.parametrize(
    ("settings", "part"), [(X3D_S, "global_CNN."), (X3D_L, "local_CNN.")], ids=["S", "L"]
)
def test_full_network_has_the_released_tensors(released_sizes, sizes_of, settings, part):
    assert sizes_of(X3D(settings=settings)) == released_sizes("uni_adafocus_x3d", part)


def test_maps_keep_time_and_halve_space_five_times():
    frames = jax.ShapeDtypeStruct((1, 3, 160, 129, 3), jnp.float32)
    out, _ = jax.eval_shape(lambda x: X3D().init_with_output(jax.random.key(0), x, train=False), frames)
    assert out.maps.shape == (1, 3, 5, 5, 432)
    assert out.pooled.shape == (1, 3, 432)


def test_blocks_begin_as_the_identity():
    x = jax.random.normal(jax.random.key(0), (1, 2, 4, 4, 8))
    block = X3DBlock(8, 1, None)
    y, _ = jax.jit(block.init_with_output, static_argnums=2)(jax.random.key(1), x, False)
    np.testing.assert_array_equal(y, jax.nn.relu(x))


def test_head_is_torchs(torch, randomized, variables_of, assert_close):
    layers = randomized(
        torch.nn.ModuleDict({"hidden": torch.nn.Linear(12, 20, bias=False), "logits": torch.nn.Linear(20, 7)})
    )
    features = np.random.default_rng(0).standard_normal((2, 3, 12)).astype(np.float32)
    ours = X3DHead(7, hidden=20).apply(variables_of(layers), features, None, train=False)
    expected = layers["logits"](layers["hidden"](torch.tensor(features)).relu())
    assert_close(ours, expected.detach())


def test_head_drops_hidden_units_in_training():
    features, keys = jnp.ones((2, 12)), jax.random.split(jax.random.key(0), 2)
    head = X3DHead(7, hidden=200)
    variables = head.init(jax.random.key(1), features, None, train=False)
    assert variables["params"].keys() == {"hidden", "logits"}
    assert head.apply(variables, features, keys, train=True).dtype == jnp.float32
    first, second = head.apply(variables, features, keys, train=True)
    assert not np.allclose(first, second)
    np.testing.assert_array_equal(*head.apply(variables, features, keys, train=False))

"""Parts of the networks, converted from the names they ship with, against PyTorch; whole: test_release_parity."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adafocus_jax.checkpoint.convert import convert_state_dict, to_state_dict
from adafocus_jax.models import create_model, init_variables
from adafocus_jax.models.classifier import PoolingClassifier
from adafocus_jax.models.mobilenet_v2 import MobileNetV2, MobileNetV2Settings
from adafocus_jax.models.policies import SpatialPolicy, TemporalPolicy, interpolate_actions
from adafocus_jax.models.resnet import ResNet, ResNetSettings
from adafocus_jax.models.x3d import X3D, X3DSettings
from adafocus_jax.ops.patch_crop import boxes_from_actions, crop_patches

torch = pytest.importorskip("torch", reason="parity tests need PyTorch (pip install torch)")
ROWS = ((1, 8, 1, 1), (6, 16, 2, 2), (6, 24, 1, 2))
"""Of a small MobileNetV2: expansion, channels, repeats, stride."""


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


def check_encoder(ours, theirs, relative):
    x = random_input(2, 4, 33, 30, 3)
    variables = convert_state_dict(arrays(randomized(theirs)), ours)
    expected = theirs(torch.from_numpy(x).movedim(-1, 2)).mean((3, 4))
    assert_close(evaluate(ours, variables, x, train=False).pooled, expected, relative)


@pytest.mark.parametrize("nested", [False, True], ids=["tonylins", "torchvision"])
def test_mobilenet_v2(release, nested):
    ours = MobileNetV2(settings=MobileNetV2Settings(16, ROWS, 64))
    check_encoder(ours, release.MobileNetV2(ROWS, 16, 64, nested=nested), 1e-4)


@pytest.mark.parametrize("bottleneck", [False, True], ids=["basic", "bottleneck"])
def test_resnet(release, bottleneck):
    rows = ((8, 1, 1), (16, 2, 2))
    ours = ResNet(settings=ResNetSettings(rows, bottleneck, stem=16))
    check_encoder(ours, release.ResNet(rows, (16, 7, 2), bottleneck=bottleneck), 1e-4)


@pytest.mark.parametrize("network", ["mobilenet_v2", "resnet", "x3d"])
def test_stem(release, network):
    """Networks without a block."""
    ours, theirs = {
        "mobilenet_v2": (
            MobileNetV2(settings=MobileNetV2Settings(16, (), 24)),
            release.MobileNetV2((), 16, 24),
        ),
        "resnet": (ResNet(settings=ResNetSettings((), stem=16)), release.ResNet((), (16, 7, 2))),
        "x3d": (X3D(settings=X3DSettings(1.0, (8,), (0,))), release.X3D(1.0, (8,), (0,))),
    }[network]
    check_encoder(ours, theirs, 1e-5)


@pytest.fixture(scope="module")
def converted():
    """Variables of a tiny model, with the tensors of a torch module put among the others."""
    model = create_model("uni_adafocus_tiny", num_classes=5)
    shapes = jax.eval_shape(lambda: init_variables(model, jax.random.key(0)))
    state_dict = to_state_dict(jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), shapes), model)

    def convert(module, path):
        variables = convert_state_dict(state_dict | arrays(module, f"{path}."), model)
        return {kind: tree[path] for kind, tree in variables.items()}

    return convert


def test_spatial_policy(release, converted):
    theirs = randomized(release.SpatialPolicy(64, 32, (1, 6, 6)))
    x = random_input(2, 8, 6, 6, 64)
    expected = theirs(torch.from_numpy(x).movedim(-1, 2))
    actual = evaluate(SpatialPolicy(32), converted(theirs, "spatial_policy"), x, train=False)
    assert_close(actual, expected, 1e-5)


def test_temporal_policy(release, converted):
    theirs, x = randomized(release.TemporalPolicy(64, 64)), random_input(2, 8, 64)
    actual = evaluate(TemporalPolicy(64), converted(theirs, "temporal_policy"), x, train=False)
    assert_close(actual, theirs(torch.from_numpy(x)), 1e-5)


def test_pooling_classifier(release, converted):
    theirs = randomized(release.PooledClassifier(64, 64, 128, release.Sizes(8, 16, 3, 5)))
    glance, focus = random_input(2, 8, 64), random_input(2, 3, 64)

    def forward(module, glance, focus):
        maxima = module.pool_glance(glance, False)
        late = module.focus_exits(focus, maxima[:, -1], None, False)
        return jnp.concatenate([module.glance_exits(maxima, None, False), late], axis=1)

    ours = PoolingClassifier(5, 128)
    actual = evaluate(ours, converted(theirs, "classifier"), glance, focus, method=forward)
    (expected,) = theirs(torch.from_numpy(glance), [torch.from_numpy(focus)])
    assert_close(actual, expected, 1e-5)


@pytest.mark.parametrize("places", [1, 8])
def test_interpolated_actions(release, places):
    actions = torch.rand(2, places, 4, generator=torch.Generator().manual_seed(0))
    everywhere = np.broadcast_to(np.arange(24, dtype=np.int32), (2, 24))
    actual = interpolate_actions(jnp.asarray(actions.numpy()), everywhere, 24)
    assert_close(actual, release.spread_actions(actions, 24), 1e-5)


@pytest.mark.parametrize("method", ["gather", "matrix"])
def test_crops(release, method):
    """Of a smooth image: on noise, float32 rounds the coordinates too much for either side."""
    actions = torch.rand(5, 4, generator=torch.Generator().manual_seed(0))
    y, x = np.mgrid[:64, :64].astype(np.float32) / 64
    images = np.stack([np.sin(3 * x + 2 * y + k) for k in range(10)]).reshape(5, 64, 64, 2)
    expected = release.crop(
        torch.from_numpy(images).movedim(-1, 1), release.boxes_of(actions, 64, 20, 64), 32
    )
    boxes = boxes_from_actions(jnp.asarray(actions.numpy()), 64, (20, 64))
    assert_close(crop_patches(jnp.asarray(images), boxes, 32, method), expected.movedim(1, -1), 1e-5)

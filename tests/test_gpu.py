"""What a GPU computes is what the CPU computes. Needs one: ``JAX_PLATFORMS=cuda,cpu pytest -m gpu``."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adafocus_jax.losses import uni_adafocus_loss
from adafocus_jax.models import create_model, init_variables, sample_draws
from adafocus_jax.ops.frame_selection import select_frames
from adafocus_jax.ops.patch_crop import crop_patches
from adafocus_jax.types import VideoBatch

pytestmark = pytest.mark.gpu

MODELS = ("uni_adafocus_tiny", "uni_adafocus_tsm_tiny", "uni_adafocus_x3d_tiny")


@pytest.fixture(scope="module")
def devices() -> tuple[jax.Device, jax.Device]:
    """The first GPU, and the first CPU device."""
    gpus = [device for device in jax.devices() if device.platform == "gpu"]
    if not gpus:
        pytest.skip("no GPU here (JAX_PLATFORMS=cuda,cpu)")
    return gpus[0], jax.devices("cpu")[0]


@pytest.fixture(autouse=True)
def _float32_products():
    """On a GPU float32 products are rounded to TensorFloat-32 unless asked otherwise."""
    with jax.default_matmul_precision("highest"):
        yield


def on(device, function, *arguments):
    """The function's result on one device, as NumPy arrays."""
    placed = jax.device_put(arguments, device)
    return jax.device_get(jax.jit(function)(*placed))


def assert_agree(function, devices, *arguments, tolerance=2e-5):
    ours, theirs = (on(device, function, *arguments) for device in devices)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert np.abs(a - b).max() <= tolerance * max(1.0, np.abs(b).max())


@pytest.mark.parametrize("method", ["gather", "matrix"])
def test_patches_and_their_gradients(devices, method):
    rng = np.random.default_rng(0)
    images = rng.standard_normal((4, 40, 40, 3)).astype(np.float32)
    boxes = np.array([[1.5, 2.25, 20, 16], [0, 0, 40, 40], [20, 10, 20, 30], [-3, -3, 20, 20]], np.float32)
    cotangent = rng.standard_normal((4, 16, 16, 3)).astype(np.float32)

    def value_and_gradients(images, boxes):
        patches, back = jax.vjp(partial(crop_patches, patch_size=16, method=method), images, boxes)
        return patches, back(cotangent)

    assert_agree(value_and_gradients, devices, images, boxes)


def test_frame_selection_is_the_same(devices, golden):
    select = partial(select_frames, num_candidates=48, num_focus=16)
    ours, theirs = (on(device, select, golden["select_base_weights"]) for device in devices)
    np.testing.assert_array_equal(ours.indices, theirs.indices)
    np.testing.assert_array_equal(ours.indices, golden["select_base_deterministic"])


@pytest.fixture(scope="module")
def videos() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (4, 16, 96, 96, 3), np.uint8)


def batch_of(model, videos) -> VideoBatch:
    count = model.num_separate_glance
    return VideoBatch(frames=videos[:, : model.num_candidates], glance=videos[:, :count] if count else None)


@pytest.mark.parametrize("name", MODELS)
def test_evaluation_agrees(devices, videos, name):
    model = create_model(name, num_classes=5)
    variables = jax.device_get(init_variables(model, jax.random.key(0)))
    run = lambda variables, batch: model.apply(variables, batch).exit_logits  # noqa: E731
    assert_agree(run, devices, variables, batch_of(model, videos), tolerance=1e-4)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_losses_and_gradients_agree(devices, videos, name, dtype):
    model = create_model(name, num_classes=5, dtype=dtype)
    variables = jax.device_get(init_variables(model, jax.random.key(0)))
    draws = jax.device_get(sample_draws(jax.random.key(1), model, batch_size=len(videos)))
    labels = np.arange(len(videos), dtype=np.int32)

    def loss(params, stats, batch, draws):
        out, _ = model.apply(
            {"params": params, "batch_stats": stats}, batch, train=True, draws=draws, mutable=["batch_stats"]
        )
        return uni_adafocus_loss(out, labels).total.mean()

    arguments = (variables["params"], variables["batch_stats"], batch_of(model, videos), draws)
    (ours, gradients), (theirs, expected) = (on(d, jax.value_and_grad(loss), *arguments) for d in devices)
    assert ours == pytest.approx(theirs, rel=1e-4 if dtype == "float32" else 3e-2)
    flat, wanted = (jnp.concatenate([x.ravel() for x in jax.tree.leaves(g)]) for g in (gradients, expected))
    assert bool(jnp.isfinite(flat).all())
    cosine = float(flat @ wanted / (jnp.linalg.norm(flat) * jnp.linalg.norm(wanted)))
    assert cosine > (0.999 if dtype == "float32" else 0.9)

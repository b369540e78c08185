import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adafocus_jax.errors import UserError
from adafocus_jax.flops import count_macs, model_cost
from adafocus_jax.losses import uni_adafocus_loss
from adafocus_jax.models import create_model, init_variables, sample_draws, variable_shapes
from adafocus_jax.ops.normalize import normalize_frames
from adafocus_jax.types import VideoBatch

SMALL = {
    "num_glance": 4,
    "num_candidates": 8,
    "num_focus": 3,
    "image_size": 48,
    "glance_size": 24,
    "patch_size": 16,
    "policy_hidden": 8,
    "temporal_hidden": 8,
    "classifier_hidden": 16,
}


def small_model(**arguments):
    return create_model("uni_adafocus_tiny", num_classes=5, **{**SMALL, **arguments})


@pytest.fixture(scope="module")
def variables():
    return jax.device_get(init_variables(small_model(), jax.random.key(0)))


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, 8, 48, 48, 3), dtype=np.uint8)


@partial(jax.jit, static_argnums=0)
def evaluate(model, variables, frames, glance=None, draws=None):
    return model.apply(variables, VideoBatch(frames=frames, glance=glance), draws=draws)


def training_pass(model, variables, frames, draws, params):
    return model.apply(
        {**variables, "params": params},
        VideoBatch(frames=frames),
        train=True,
        draws=draws,
        mutable=["batch_stats"],
    )


@partial(jax.jit, static_argnums=0)
def step(model, variables, frames, draws):
    """Gradients, and the output and new running statistics; compiled once per model."""

    def loss(params):
        out, updates = training_pass(model, variables, frames, draws, params)
        losses = uni_adafocus_loss(out, jnp.array([1, 3]), {"norm": 0.5, "kl": 0.1}).mean()
        return losses.total, (out, updates)

    return jax.grad(loss, has_aux=True)(variables["params"])


def test_evaluation_yields_every_named_result(variables, frames):
    out = evaluate(small_model(), variables, frames)
    shapes = {name: np.shape(value) for name, value in dataclasses.asdict(out).items() if np.ndim(value)}
    assert shapes == {
        "logits": (2, 5),
        "exit_logits": (2, 7, 5),
        "global_logits": (2, 4, 5),
        "local_logits": (2, 3, 5),
        "temporal_logits": (2, 5),
        "spatial_logits": (2, 5),
        "frame_weights": (2, 4),
        "frame_indices": (2, 3),
        "glance_indices": (2, 4),
        "actions": (2, 4, 4),
        "boxes": (2, 3, 4),
        "glance_features": (2, 4, 64),
    }
    np.testing.assert_array_equal(out.logits, out.exit_logits[:, -1])
    np.testing.assert_array_equal(out.glance_indices[0], [1, 3, 5, 7])
    low, high = (side * 48 for side in small_model().side_limits)
    boxes = np.asarray(out.boxes)
    assert np.all(boxes[..., 2:] >= low - 1e-3)
    assert np.all(boxes[..., 2:] <= high + 1e-3)
    assert np.all(boxes[..., :2] >= 0)
    assert np.all(boxes[..., :2] + boxes[..., 2:] <= 48 + 1e-3)


def test_float_frames_are_normalised_already_and_separate_glances_are_used(variables, frames):
    model = small_model()
    expected = evaluate(model, variables, frames)
    as_float = evaluate(model, variables, normalize_frames(frames))
    np.testing.assert_allclose(as_float.exit_logits, expected.exit_logits, rtol=1e-4, atol=1e-5)
    separate = evaluate(model, variables, frames, glance=frames[:, 1::2])
    np.testing.assert_allclose(separate.exit_logits, expected.exit_logits, rtol=1e-4, atol=1e-5)
    assert separate.glance_indices is None


def test_both_crops_give_the_same_output(variables, frames):
    gathered, multiplied = (
        evaluate(small_model(crop=crop), variables, frames) for crop in ("gather", "matrix")
    )
    np.testing.assert_allclose(gathered.exit_logits, multiplied.exit_logits, rtol=1e-3, atol=1e-4)


def test_bfloat16_is_close_and_logits_stay_float32(variables, frames):
    exact = evaluate(small_model(), variables, frames)
    rough = evaluate(small_model(dtype="bfloat16"), variables, frames)
    assert rough.exit_logits.dtype == jnp.float32
    np.testing.assert_allclose(rough.frame_weights, exact.frame_weights, atol=0.05)
    np.testing.assert_allclose(rough.exit_logits, exact.exit_logits, atol=0.1)


@pytest.mark.parametrize("estimator", ["exact", "monte_carlo", "straight_through"])
def test_training_runs_both_passes_and_reaches_every_parameter(variables, frames, estimator):
    model = small_model(temporal_estimator=estimator)
    draws = sample_draws(jax.random.key(1), model, 2)
    gradient, (out, updates) = jax.device_get(step(model, variables, frames, draws))
    for group, leaves in gradient.items():
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(leaves)), group
        assert any(leaf.any() for leaf in jax.tree.leaves(leaves)), group
    np.testing.assert_array_equal(out.logits, out.policy.exit_logits[:, -1])
    np.testing.assert_allclose(out.random.boxes[..., 2:], 16, atol=1e-4)
    assert (out.temporal_logits is None) == (estimator == "straight_through")
    moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), updates["batch_stats"], variables["batch_stats"])
    assert all(jax.tree.leaves(moved))


def terms_of(model, variables, frames, names):
    """From parameters to terms of the loss."""
    draws = sample_draws(jax.random.key(1), model, 2)

    def terms(params):
        out, _ = training_pass(model, variables, frames, draws, params)
        terms = uni_adafocus_loss(out, jnp.array([1, 3])).mean().terms
        return jnp.stack([terms[name] for name in names])

    return terms


@pytest.mark.parametrize("estimator", ["proxy", "interpolation"])
def test_gradients_stop_where_the_method_says(variables, frames, estimator):
    """The spatial policy learns from the proxy alone, or from the patches' pixels; no encoder learns from the proxy."""
    names = ("spatial", "temporal", "exits")
    terms = terms_of(small_model(spatial_estimator=estimator), variables, frames, names)
    gradient = jax.jit(lambda params, weights: jax.vjp(terms, params)[1](weights)[0])
    learning = {
        name: {
            group
            for group, leaves in jax.device_get(gradient(variables["params"], weights)).items()
            if any(map(np.any, jax.tree.leaves(leaves)))
        }
        for name, weights in zip(names, np.eye(len(names), dtype=np.float32), strict=True)
    }
    by_proxy = estimator == "proxy"
    exits = {"global_encoder", "local_encoder", "classifier"}
    assert learning == {
        "spatial": {"spatial_policy", "proxy_head"} if by_proxy else set(),
        "temporal": {"temporal_policy", "global_encoder", "global_head"},
        "exits": exits if by_proxy else exits | {"spatial_policy"},
    }


def test_interpolation_gives_the_slope_of_recognition_as_boxes_move(variables):
    """Against finite differences, on smooth frames and in the direction of steepest ascent."""
    waves = np.sin(np.linspace(0, 3, 48))[:, None, None] * np.cos(np.linspace(0, 2, 48) + 1)[:, None]
    shifts = np.random.default_rng(0).uniform(0.3, 1, (2, 8, 1, 1, 3))
    frames = (2 * shifts * waves).astype(np.float32)
    terms = terms_of(small_model(spatial_estimator="interpolation"), variables, frames, ("exits",))
    loss = jax.jit(jax.value_and_grad(lambda params: terms(params)[0]))
    params = variables["params"]
    policy = params["spatial_policy"]
    gradient = loss(params)[1]["spatial_policy"]["conv4"]["kernel"]
    length = float(jnp.linalg.norm(gradient))

    def at(step):
        conv4 = {"kernel": policy["conv4"]["kernel"] + step * gradient / length}
        return float(loss({**params, "spatial_policy": {**policy, "conv4": conv4}})[0])

    step = 5e-4  # more crosses the kinks of the network
    assert (at(step) - at(-step)) / (2 * step) == pytest.approx(length, rel=0.1)


@pytest.mark.parametrize(
    ("spatial", "temporal"), [("centre", "uniform"), ("random", "learned"), ("gaussian", "random")]
)
def test_controls_run_on_the_same_parameters(variables, frames, spatial, temporal):
    model = small_model(spatial=spatial, temporal=temporal)
    draws = sample_draws(jax.random.key(0), model, 2)
    out = evaluate(model, variables, frames, draws=draws)
    np.testing.assert_allclose(out.boxes[..., 2:], 16, atol=1e-4)
    assert np.all(np.diff(out.frame_indices) > 0)
    if spatial == "centre":
        np.testing.assert_allclose(out.boxes[..., :2], 16, atol=1e-4)
    if temporal == "uniform":
        np.testing.assert_array_equal(out.frame_indices, [[1, 4, 6]] * 2)


def test_draws_do_not_depend_on_how_the_batch_is_split():
    model = small_model(temporal_estimator="monte_carlo", temporal="random", spatial="random")
    key = jax.random.key(7)
    whole = sample_draws(key, model, 6)
    parts = [sample_draws(key, model, 2, first=first) for first in (0, 2, 4)]
    for together, *apart in zip(*map(jax.tree.leaves, (whole, *parts)), strict=True):
        if jnp.issubdtype(together.dtype, jax.dtypes.prng_key):
            together, apart = jax.random.key_data(together), [jax.random.key_data(part) for part in apart]
        np.testing.assert_array_equal(together, np.concatenate(apart))


def test_handed_in_draws_decide(variables, frames):
    model = small_model()
    draws = sample_draws(jax.random.key(0), model, 2).replace(
        glance_offsets=jnp.zeros((2, 4)),
        positions=jnp.zeros((2, 3, 2)),
        thresholds=jnp.full((2, 3), 0.5, jnp.float32),
    )
    _, (out, _) = step(model, variables, frames, draws)
    np.testing.assert_array_equal(out.glance_indices, [[0, 2, 4, 6]] * 2)
    np.testing.assert_allclose(out.random.boxes, [[[0, 0, 16, 16]] * 3] * 2, atol=1e-4)


def test_the_full_model_has_the_published_shapes():
    model = create_model("uni_adafocus", num_classes=200, patch_size=128)
    shapes = jax.eval_shape(lambda key: init_variables(model, key), jax.random.key(0))["params"]
    assert shapes["spatial_policy"]["conv4"]["kernel"].shape == (1, 7, 7, 128, 4)
    assert shapes["classifier"]["focus_heads"]["kernel"].shape == (16, 8192, 200)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "adafocuss"}, "unknown model 'adafocuss': choose one of uni_adafocus"),
        ({"num_glances": 8}, "unknown model argument 'num_glances': did you mean 'num_glance'"),
        ({"temporal_estimator": "exakt"}, "choose one of exact, monte_carlo, straight_through"),
        ({"spatial_estimator": "pixels"}, "choose one of proxy, interpolation"),
        ({"dtype": "float16"}, "choose one of float32, bfloat16"),
        ({"global_encoder": "vgg"}, "unknown encoder 'vgg': choose one of"),
        ({"num_focus": 99}, "num_focus=99 exceeds num_candidates=48"),
        ({"num_candidates": 50}, "num_candidates=50 must be a multiple of num_glance=16"),
        ({"patch_size": 256}, "patch_size=256 exceeds image_size=224"),
        ({"side_limits": (0.5, 0.2)}, "0 < smallest <= largest <= 1"),
        ({"num_focus": 0}, "num_focus=0 must be at least 1"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    arguments = {"name": "uni_adafocus", "num_classes": 10, **arguments}
    with pytest.raises(UserError, match=message.replace("(", r"\(")):
        create_model(**arguments)


def test_training_without_draws_is_refused(variables, frames):
    with pytest.raises(ValueError, match="sample_draws"):
        small_model().apply(variables, VideoBatch(frames=frames), train=True)


def test_without_the_random_pass_training_looks_once(frames):
    def macs(used):
        model = small_model(random_pass=used)
        shapes = variable_shapes(model)
        draws = sample_draws(jax.random.key(1), model, batch_size=2)

        def losses(variables, frames):
            out = training_pass(model, variables, frames, draws, variables["params"])[0]
            return uni_adafocus_loss(out, jnp.array([0, 1])).total

        return count_macs(losses, shapes, frames)

    look = model_cost(small_model()).parts["local_encoder"] * 2
    assert macs(True) - macs(False) >= look


def test_without_reuse_focus_exits_ignore_the_glance(variables, frames):
    alone = small_model(reuse_glance=False)
    kernels = [
        variable_shapes(model)["params"]["classifier"]["focus_heads"]["kernel"].shape
        for model in (alone, small_model())
    ]
    assert (kernels[0][1], kernels[1][1]) == (SMALL["classifier_hidden"], 2 * SMALL["classifier_hidden"])
    out = evaluate(alone, init_variables(alone, jax.random.key(0)), frames)
    assert bool(jnp.isfinite(out.exit_logits).all())

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adafocus_jax.errors import UserError
from adafocus_jax.losses import LOSS_TERMS, uni_adafocus_loss
from adafocus_jax.models import create_model, init_variables, sample_draws
from adafocus_jax.types import VideoBatch

SIZES = {
    "num_glance": 4,
    "num_candidates": 6,
    "num_focus": 2,
    "image_size": 32,
    "glance_size": 16,
    "patch_size": 16,
    "side_limits": (0.25, 0.75),
    "policy_hidden": 8,
    "temporal_hidden": 8,
}
TERMS = ["total", *LOSS_TERMS]


@pytest.fixture(scope="module", params=["uni_adafocus_tsm_tiny", "uni_adafocus_x3d_tiny"])
def name(request) -> str:
    return request.param


def small_model(name, **arguments):
    return create_model(name, num_classes=5, **{**SIZES, **arguments})


def random_variables(model):
    """Noise instead of fresh weights: compiles nothing, and no zero hides a gradient."""
    rng = np.random.default_rng(1)
    shapes = jax.eval_shape(lambda: init_variables(model, jax.random.key(0)))

    def noise(leaf):
        fan_in = np.prod(leaf.shape[:-1]) if len(leaf.shape) > 1 else 1
        return (rng.standard_normal(leaf.shape, np.float32) / fan_in**0.5).astype(np.float32)

    return {
        "params": jax.tree.map(noise, shapes["params"]),
        "batch_stats": jax.tree.map(lambda leaf: np.ones(leaf.shape, np.float32), shapes["batch_stats"]),
    }


@pytest.fixture(scope="module")
def variables(name):
    return random_variables(small_model(name))


@pytest.fixture(scope="module")
def batch() -> VideoBatch:
    rng = np.random.default_rng(0)
    frames, glance = (rng.integers(0, 256, (2, count, 32, 32, 3), dtype=np.uint8) for count in (6, 4))
    return VideoBatch(frames=frames, glance=glance)


def evaluate(model, variables, batch, **draws):
    return jax.device_get(jax.jit(lambda v, b: model.apply(v, b, **draws))(variables, batch))


def test_two_exits_and_one_box_per_video(name, variables, batch):
    model = small_model(name)
    out = evaluate(model, variables, batch)
    assert out.exit_logits.shape == (2, 2, 5)
    assert out.global_logits.shape == (2, 4, 5)
    assert out.local_logits.shape == (2, 2, 5)
    assert out.actions.shape == (2, 1, 4)
    assert out.glance_indices is None
    np.testing.assert_allclose(out.exit_logits[:, 0], out.global_logits.mean(axis=1), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(out.logits, out.exit_logits[:, 1])
    np.testing.assert_array_equal(out.boxes[:, 0], out.boxes[:, 1])
    assert np.all(out.boxes[0, 0] != out.boxes[1, 0])


def test_prediction_is_the_sum_of_the_final_heads(name, variables, batch):
    model = small_model(name)

    def by_hand(m, features, which):
        head = getattr(m, which)
        if m.pool_time:
            return head(features.mean(axis=1), None, False)
        return head(features, None, False).mean(axis=1)

    out = evaluate(model, variables, batch)
    width = 64 if "tsm" in name else 36
    local = jax.random.normal(jax.random.key(0), (2, 2, width))
    glance = model.apply(variables, out.glance_features, "global_final_head", method=by_hand)
    focus = model.apply(variables, local, "local_final_head", method=by_hand)
    exits = model.apply(variables, local, glance, None, False, method="focus_exits")
    np.testing.assert_allclose(exits[:, 0], glance + focus, rtol=1e-5, atol=1e-5)


def test_each_term_trains_what_the_method_says(batch):
    """Encoders learn from their auxiliary heads alone; final heads from the sum; policies from nothing else's loss."""
    model = small_model("uni_adafocus_tsm_tiny")
    variables = random_variables(model)
    draws = sample_draws(jax.random.key(2), model, 2)
    assert draws.positions.shape == (2, 1, 2)

    def losses(params):
        out, updates = model.apply(
            {**variables, "params": params}, batch, train=True, draws=draws, mutable=["batch_stats"]
        )
        found = uni_adafocus_loss(out, jnp.array([1, 3])).mean()
        terms = {"total": found.total, **found.terms}
        return jnp.stack([terms[term] for term in TERMS]), (out, updates)

    @jax.jit
    def gradients(params, weights):
        _, pull, (out, updates) = jax.vjp(losses, params, has_aux=True)
        return pull(weights)[0], out, updates

    # One program for one term at a time: vmap over all of them takes five times as long to compile.
    rows, (out, *_), (updates, *_) = zip(
        *(
            jax.device_get(gradients(variables["params"], row))
            for row in np.eye(len(TERMS), dtype=np.float32)
        ),
        strict=True,
    )
    found = jax.tree.map(lambda *leaves: np.stack(leaves), *rows)
    trained = {
        term: {
            group
            for group, leaves in found.items()
            if any(leaf[row].any() for leaf in jax.tree.leaves(leaves))
        }
        for row, term in enumerate(TERMS)
    }
    assert trained == {
        "total": set(found),
        "exits": {"global_final_head", "local_final_head"},
        "glance": {"global_encoder", "global_head"},
        "focus": {"local_encoder", "local_head"},
        "temporal": {"temporal_policy"},
        "spatial": {"spatial_policy", "proxy_head"},
        "norm": {"spatial_policy"},
        "kl": {"temporal_policy"},
    }
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))
    np.testing.assert_allclose(out.random.boxes[..., 2:], 16, atol=1e-4)
    np.testing.assert_array_equal(out.random.boxes[:, 0], out.random.boxes[:, 1])
    moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), updates["batch_stats"], variables["batch_stats"])
    assert all(jax.tree.leaves(moved))


def test_a_batch_without_glance_is_cut_where_it_divides(name, variables, batch):
    frames = VideoBatch(frames=batch.frames)
    with pytest.raises(UserError, match="num_glance=4 cannot be cut evenly from num_candidates=6"):
        small_model(name).apply(variables, frames)
    even = small_model(name, num_candidates=4)
    cut = evaluate(even, variables, VideoBatch(frames=batch.frames[:, :4]))
    given = evaluate(even, variables, VideoBatch(frames=batch.frames[:, :4], glance=batch.frames[:, :4]))
    np.testing.assert_array_equal(cut.glance_indices, [[0, 1, 2, 3]] * 2)
    np.testing.assert_allclose(cut.exit_logits, given.exit_logits, rtol=1e-5, atol=1e-5)


def test_controls_draw_one_box_per_video(name, variables, batch):
    model = small_model(name, spatial="random", temporal="random")
    draws = sample_draws(jax.random.key(0), model, 2)
    assert draws.control_positions.shape == (2, 1, 2)
    out = evaluate(model, variables, batch, draws=draws)
    np.testing.assert_array_equal(out.boxes[:, 0], out.boxes[:, 1])
    np.testing.assert_allclose(out.boxes[..., 2:], 16, atol=1e-4)
    assert np.all(np.diff(out.frame_indices) > 0)


def test_two_streams_see_whole_frames_once(batch):
    sizes = {**SIZES, "num_candidates": 4, "num_focus": 4, "patch_size": 32}
    model = create_model(
        "uni_adafocus_tsm_tiny",
        num_classes=5,
        **{**sizes, "side_limits": (1, 1), "spatial": "centre", "temporal": "uniform"},
    )
    variables = random_variables(model)
    frames = VideoBatch(frames=batch.frames[:, :4])
    draws = sample_draws(jax.random.key(1), model, 2)
    train = jax.jit(lambda v: model.apply(v, frames, train=True, draws=draws, mutable=["batch_stats"]))
    out, _ = jax.device_get(train(variables))
    np.testing.assert_array_equal(out.boxes, np.broadcast_to([0, 0, 32, 32], (2, 4, 4)))
    np.testing.assert_array_equal(out.frame_indices, [[0, 1, 2, 3]] * 2)
    np.testing.assert_array_equal(out.policy.exit_logits, out.random.exit_logits)
    assert out.temporal_logits is None
    np.testing.assert_array_equal(uni_adafocus_loss(out, jnp.array([1, 3])).terms["norm"], [0, 0])

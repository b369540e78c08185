import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adafocus_jax.errors import UserError
from adafocus_jax.losses import LOSS_TERMS, LOSS_WEIGHTS, cross_entropy, register_loss_term, uni_adafocus_loss
from adafocus_jax.types import ModelOutput, PassOutput


def output(key=0, batch=3, glance=4, focus=2, classes=5, **changes) -> ModelOutput:
    rng = np.random.default_rng(key)

    def normal(*shape):
        return rng.standard_normal(shape, np.float32)

    passes = [
        PassOutput(
            exit_logits=normal(batch, glance + focus, classes),
            local_logits=normal(batch, focus, classes),
            boxes=jnp.zeros((batch, focus, 4)),
        )
        for _ in range(2)
    ]
    fields = {
        "logits": passes[0].exit_logits[:, -1],
        "exit_logits": passes[0].exit_logits,
        "global_logits": normal(batch, glance, classes),
        "local_logits": passes[0].local_logits,
        "temporal_logits": normal(batch, classes),
        "spatial_logits": normal(batch, classes),
        "frame_weights": jax.nn.softmax(normal(batch, glance)),
        "frame_indices": jnp.zeros((batch, focus), jnp.int32),
        "glance_indices": jnp.zeros((batch, glance), jnp.int32),
        "actions": jax.nn.sigmoid(normal(batch, glance, 4)),
        "boxes": passes[0].boxes,
        "glance_features": normal(batch, glance, 6),
        "policy": passes[0],
        "random": passes[1],
    }
    return ModelOutput(**{**fields, **changes})


def test_total_is_the_published_sum():
    out, labels = output(), jnp.array([0, 4, 2])
    losses = uni_adafocus_loss(out, labels, {"norm": 0.75, "kl": 0.1}).mean()

    def nll(logits):
        log = np.asarray(jax.nn.log_softmax(logits))
        return -np.mean([log[b, ..., label] for b, label in enumerate(np.asarray(labels))])

    half = [
        nll(p.exit_logits)
        + nll(out.global_logits)
        + nll(p.local_logits)
        + nll(out.temporal_logits)
        + nll(out.spatial_logits)
        for p in (out.policy, out.random)
    ]
    norm = np.mean((np.asarray(out.actions)[..., 2:] - 1) ** 2)
    weights = np.asarray(out.frame_weights)
    kl = np.mean(np.sum(weights * np.log(weights * 4), axis=1))
    assert float(losses.total) == pytest.approx(sum(half) / 2 + 0.75 * norm + 0.1 * kl, rel=1e-5)
    assert float(losses.terms["kl"]) == pytest.approx(kl, rel=1e-5)


def test_uniform_logits_cost_log_k_and_uniform_weights_no_kl():
    np.testing.assert_allclose(cross_entropy(jnp.zeros((2, 3, 7)), jnp.array([1, 6])), np.log(7), rtol=1e-6)
    losses = uni_adafocus_loss(output(frame_weights=jnp.full((3, 4), 0.25)), jnp.array([0, 1, 2]))
    np.testing.assert_allclose(losses.terms["kl"], 0, atol=1e-6)


def test_one_hot_weights_have_finite_loss_and_gradient():
    out = output(frame_weights=jnp.eye(4)[jnp.array([0, 1, 2])])

    def loss(weights):
        changed = out.replace(frame_weights=weights)
        return uni_adafocus_loss(changed, jnp.array([0, 1, 2]), {"kl": 1.0}).mean().total

    value, gradient = jax.jit(jax.value_and_grad(loss))(out.frame_weights)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


def test_averaged_frames_vote_once_and_only_the_last_exit_counts():
    out, labels = output(average_frames=True), jnp.array([0, 4, 2])
    losses = uni_adafocus_loss(out, labels)
    last = [cross_entropy(p.exit_logits[:, -1], labels) for p in (out.policy, out.random)]
    votes = [cross_entropy(p.local_logits.mean(axis=1), labels) for p in (out.policy, out.random)]
    glance = cross_entropy(out.global_logits.mean(axis=1), labels)
    expected = {"exits": sum(last) / 2, "focus": sum(votes) / 2, "glance": glance}
    chex.assert_trees_all_close({name: losses.terms[name] for name in expected}, expected, rtol=1e-5)


def test_terms_that_are_not_there_are_zero():
    losses = uni_adafocus_loss(output(temporal_logits=None, spatial_logits=None), jnp.array([0, 1, 2]))
    np.testing.assert_array_equal([losses.terms["temporal"], losses.terms["spatial"]], np.zeros((2, 3)))


def test_an_evaluation_output_is_refused():
    with pytest.raises(ValueError, match="train=True"):
        uni_adafocus_loss(output(policy=None), jnp.array([0, 1, 2]))


def test_every_video_has_its_own_loss():
    """That of a batch of one: so masks and weights of videos or classes may follow."""
    out, labels = output(), jnp.array([0, 4, 2])
    losses = jax.jit(lambda out, labels: uni_adafocus_loss(out, labels, {"kl": 0.5}))
    together = jax.device_get(losses(out, labels))
    for video in range(3):
        alone = jax.tree.map(lambda x, video=video: x[video : video + 1], out)
        one = losses(alone, labels[video : video + 1])
        chex.assert_trees_all_close(
            one, jax.tree.map(lambda x, video=video: x[video : video + 1], together), rtol=1e-5
        )


def test_a_registered_term_counts_by_its_weight(monkeypatch):
    monkeypatch.setattr("adafocus_jax.losses.LOSS_TERMS", dict(LOSS_TERMS))
    register_loss_term("area", lambda out, labels: out.actions[..., 2:].prod(axis=-1).mean(axis=1))
    out, labels = output(), jnp.array([0, 4, 2])
    plain, more = uni_adafocus_loss(out, labels), uni_adafocus_loss(out, labels, {"area": 2.0})
    assert plain.terms.keys() == LOSS_WEIGHTS.keys()
    np.testing.assert_allclose(more.total, plain.total + 2 * more.terms["area"], rtol=1e-6)
    with pytest.raises(UserError, match="loss term 'area' exists already"):
        register_loss_term("area", LOSS_TERMS["kl"])
    register_loss_term("mean", lambda out, labels: jnp.zeros(()))
    with pytest.raises(AssertionError, match="'mean' is not one value per video"):
        uni_adafocus_loss(out, labels, {"mean": 1.0})


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"nrom": 1.0}, "'nrom': no such term; choose among exits, glance"),
        ({"kl": -1.0}, "kl=-1.0 is not valid"),
    ],
)
def test_weights_that_mean_nothing_are_refused(weights, message):
    with pytest.raises(UserError, match=message):
        uni_adafocus_loss(output(), jnp.array([0, 1, 2]), weights)

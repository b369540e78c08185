import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adafocus_jax.losses import cross_entropy, uni_adafocus_loss
from adafocus_jax.types import ModelOutput, PassOutput


def output(key=0, batch=3, glance=4, focus=2, classes=5, **changes) -> ModelOutput:
    keys = iter(jax.random.split(jax.random.key(key), 12))

    def normal(*shape):
        return jax.random.normal(next(keys), shape)

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
    losses = uni_adafocus_loss(out, labels, norm_ratio=0.75, kl_ratio=0.1)

    def nll(logits):
        log = jax.nn.log_softmax(logits)
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
    assert float(losses.kl) == pytest.approx(kl, rel=1e-5)


def test_uniform_logits_cost_log_k_and_uniform_weights_no_kl():
    assert float(cross_entropy(jnp.zeros((2, 3, 7)), jnp.array([1, 6]))) == pytest.approx(np.log(7))
    losses = uni_adafocus_loss(output(frame_weights=jnp.full((3, 4), 0.25)), jnp.array([0, 1, 2]))
    assert float(losses.kl) == pytest.approx(0, abs=1e-6)


def test_one_hot_weights_have_finite_loss_and_gradient():
    out = output(frame_weights=jnp.eye(4)[jnp.array([0, 1, 2])])

    def loss(weights):
        changed = out.replace(frame_weights=weights)
        return uni_adafocus_loss(changed, jnp.array([0, 1, 2]), kl_ratio=1.0).total

    value, gradient = jax.value_and_grad(loss)(out.frame_weights)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


def test_averaged_frames_vote_once_and_only_the_last_exit_counts():
    out, labels = output(average_frames=True), jnp.array([0, 4, 2])
    losses = uni_adafocus_loss(out, labels)
    last = [cross_entropy(p.exit_logits[:, -1], labels) for p in (out.policy, out.random)]
    votes = [cross_entropy(p.local_logits.mean(axis=1), labels) for p in (out.policy, out.random)]
    assert float(losses.exits) == pytest.approx(float(sum(last)) / 2, rel=1e-5)
    assert float(losses.focus) == pytest.approx(float(sum(votes)) / 2, rel=1e-5)
    glance = cross_entropy(out.global_logits.mean(axis=1), labels)
    assert float(losses.glance) == pytest.approx(float(glance), rel=1e-5)


def test_terms_that_are_not_there_are_zero():
    losses = uni_adafocus_loss(output(temporal_logits=None, spatial_logits=None), jnp.array([0, 1, 2]))
    assert float(losses.temporal) == float(losses.spatial) == 0


def test_an_evaluation_output_is_refused():
    with pytest.raises(ValueError, match="train=True"):
        uni_adafocus_loss(output(policy=None), jnp.array([0, 1, 2]))

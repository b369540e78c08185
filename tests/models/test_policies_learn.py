"""The policies move where the method says they do, on a task small enough for seconds.

Eight frames of 24×24 px. Two neighbouring frames hold a coloured square, whose colour is the class; the others hold
noise. The temporal policy should find the frames, the spatial policy the square.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from adafocus_jax.losses import cross_entropy, uni_adafocus_loss
from adafocus_jax.models import init_variables, sample_draws
from adafocus_jax.models.layers import FrameFeatures, pool_frames
from adafocus_jax.models.uni_adafocus import UniAdaFocus
from adafocus_jax.types import VideoBatch

NUM_CLASSES, FRAMES, SIZE, SQUARE = 3, 8, 24, 8
COLOURS = np.eye(3, dtype=np.float32) * 4


class TinyEncoder(nn.Module):
    """A stride-4 convolution and a 1×1: its receptive field stays inside a map cell, as location needs."""

    @nn.compact
    def __call__(self, frames, train: bool) -> FrameFeatures:
        x = nn.relu(nn.Conv(12, (4, 4), strides=4)(frames))
        return pool_frames(nn.relu(nn.Conv(16, (1, 1))(x)))


def make_model(**arguments) -> UniAdaFocus:
    sizes = {
        "num_glance": FRAMES,
        "num_candidates": FRAMES,
        "num_focus": 2,
        "image_size": SIZE,
        "glance_size": SIZE,
    }
    hidden = {"policy_hidden": 16, "temporal_hidden": 16, "classifier_hidden": 16}
    fixed = {
        "patch_size": 8,
        "side_limits": (1 / 3, 0.4),
        "dropout": 0.0,
        "head_dropout": 0.0,
        "policy_last_scale": 0.2,
    }
    encoders = {"global_encoder": TinyEncoder(), "local_encoder": TinyEncoder()}
    return UniAdaFocus(num_classes=NUM_CLASSES, **{**sizes, **hidden, **fixed, **encoders, **arguments})


def make_videos(seed: int, count: int, where: tuple[int, int] | None = None):
    """Normalised frames ``[count, 8, 24, 24, 3]``, labels, and which frames hold the square."""
    rng = np.random.default_rng(seed)
    frames = 0.5 * rng.standard_normal((count, FRAMES, SIZE, SIZE, 3), dtype=np.float32)
    labels = rng.integers(NUM_CLASSES, size=count)
    first = rng.integers(FRAMES - 1, size=count)
    for video, label, start in zip(frames, labels, first, strict=True):
        top, left = rng.integers(SIZE - SQUARE + 1, size=2) if where is None else where
        video[start : start + 2, top : top + SQUARE, left : left + SQUARE] += COLOURS[label]
    holds = (np.arange(FRAMES) >= first[:, None]) & (np.arange(FRAMES) <= first[:, None] + 1)
    return frames, labels.astype(np.int32), holds


def fit(model, variables, loss, *, steps, rate, learn=None, where=None, batch=16):
    """SGD with momentum on fresh videos; ``learn`` names the only group of parameters that moves."""
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(rate, momentum=0.9))

    @jax.jit
    def step(variables, state, frames, labels, key):
        def total(params):
            out, updates = model.apply(
                {**variables, "params": params},
                VideoBatch(frames=frames),
                train=True,
                draws=sample_draws(key, model, batch),
                mutable=["batch_stats"],
            )
            return loss(out, labels).mean(), updates

        gradient, updates = jax.grad(total, has_aux=True)(variables["params"])
        if learn is not None:
            gradient = {k: jax.tree.map(jnp.zeros_like, g) if k != learn else g for k, g in gradient.items()}
        change, state = optimizer.update(gradient, state)
        return {"params": optax.apply_updates(variables["params"], change), **updates}, state

    state = optimizer.init(variables["params"])
    for number in range(steps):
        frames, labels, _ = make_videos(number, batch, where)
        variables, state = step(variables, state, frames, labels, jax.random.key(number))
    return variables


def look(model, variables, where=None):
    """Weight on the informative frames, and the boxes, over 64 fresh videos."""
    frames, _, holds = make_videos(10_000, 64, where)
    out = jax.jit(lambda v, f: model.apply(v, VideoBatch(frames=f)))(variables, frames)
    return float(np.mean(np.sum(np.asarray(out.frame_weights) * holds, axis=1))), np.asarray(out.boxes)


MIDDLE = ((SIZE - SQUARE) // 2,) * 2
STRAIGHT = {"temporal_estimator": "straight_through"}


def recognition(out, labels):
    """Of the exits after the glance, and of the patches."""
    exits = cross_entropy(out.policy.exit_logits[:, FRAMES:], labels)
    return exits + cross_entropy(out.random.local_logits, labels)


@pytest.fixture(scope="module")
def taught():
    """Variables whose encoders and classifier have learned the classes from uniform frames."""
    teacher = make_model(temporal="uniform", **STRAIGHT)
    variables = init_variables(teacher, jax.random.key(0))
    return fit(teacher, variables, recognition, steps=120, rate=0.1, where=MIDDLE)


@pytest.mark.parametrize("form", ["gate", "pixels"])
def test_straight_through_alone_moves_the_temporal_policy(taught, form):
    student = make_model(spatial="centre", straight_through=form, **STRAIGHT)
    before, _ = look(student, taught, MIDDLE)
    assert before == pytest.approx(0.25, abs=0.1)
    options = {"steps": 150, "rate": 0.5, "learn": "temporal_policy", "where": MIDDLE}
    after, _ = look(student, fit(student, taught, recognition, **options), MIDDLE)
    assert after > 2 * before


def test_expected_logits_and_proxy_move_both_policies_from_scratch():
    model = make_model()
    variables = init_variables(model, jax.random.key(1))
    before, _ = look(model, variables)
    variables = fit(
        model, variables, lambda out, y: uni_adafocus_loss(out, y, {"norm": 0.0}).total, steps=250, rate=0.1
    )
    after, _ = look(model, variables)
    assert before < 0.35
    assert after > 0.6

    corner = (SIZE - SQUARE, 0)
    start = look(model, variables, corner)[1]
    covered = coverage(start, corner)
    assert covered > 0.5, covered
    assert coverage(look(model, variables, (0, SIZE - SQUARE))[1], (0, SIZE - SQUARE)) > 0.5


def coverage(boxes: np.ndarray, where: tuple[int, int]) -> float:
    """Mean share of the square at ``where`` that lies in the boxes."""
    square = np.asarray(where, np.float32)
    low = np.maximum(boxes[..., :2], square)
    high = np.minimum(boxes[..., :2] + boxes[..., 2:], square + SQUARE)
    return float(np.clip(high - low, 0, None).prod(axis=-1).mean() / SQUARE**2)

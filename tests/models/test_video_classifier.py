import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adafocus_jax.losses import cross_entropy, uni_adafocus_loss
from adafocus_jax.models import create_model, init_variables, sample_draws
from adafocus_jax.types import VideoBatch


@pytest.mark.parametrize("name", ["tsm_tiny", "x3d_tiny"])
def test_one_exit_trains_encoder_and_classifier(name):
    model = create_model(name, num_classes=5, num_candidates=4, image_size=32)
    variables = init_variables(model, jax.random.key(0))
    frames = np.random.default_rng(0).integers(0, 256, (2, 4, 32, 32, 3), dtype=np.uint8)
    draws = sample_draws(jax.random.key(1), model, 2)
    labels = jnp.array([1, 3])

    @jax.jit
    def step(params):
        def loss(params):
            out, _ = model.apply(
                {**variables, "params": params},
                VideoBatch(frames=frames),
                train=True,
                draws=draws,
                mutable=["batch_stats"],
            )
            return uni_adafocus_loss(out, labels, {"kl": 1.0}).mean().total, out

        return jax.value_and_grad(loss, has_aux=True)(params)

    (total, out), gradient = jax.device_get(step(variables["params"]))
    assert float(total) == pytest.approx(float(cross_entropy(out.logits, labels).mean()), rel=1e-5)
    assert gradient.keys() == {"encoder", "classifier"}
    for group in gradient.values():
        assert any(leaf.any() for leaf in jax.tree.leaves(group))
    assert out.exit_logits.shape == (2, 1, 5)
    np.testing.assert_array_equal(out.boxes[0, 0], [0, 0, 32, 32])
    np.testing.assert_array_equal(out.frame_indices[1], [0, 1, 2, 3])
    np.testing.assert_allclose(out.frame_weights.sum(axis=1), 1, rtol=1e-6)


def test_dropout_is_drawn_per_video_and_only_in_training():
    model = create_model("tsm_tiny", num_classes=5, num_candidates=2, image_size=16, dropout=0.5)
    variables = init_variables(model, jax.random.key(0))
    frames = VideoBatch(frames=np.full((2, 2, 16, 16, 3), 128, np.uint8))
    draws = sample_draws(jax.random.key(1), model, 2)
    apply = jax.jit(
        lambda v, train: model.apply(v, frames, train, draws, mutable=["batch_stats"])[0], static_argnums=1
    )
    dropped, whole = (np.asarray(apply(variables, train).logits) for train in (True, False))
    assert np.any(dropped[0] != dropped[1])
    np.testing.assert_array_equal(whole[0], whole[1])

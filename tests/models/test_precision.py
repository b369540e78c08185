"""What the type of the activations and rematerialisation change, and what they must not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adafocus_jax.losses import uni_adafocus_loss
from adafocus_jax.models import create_model, init_variables, sample_draws
from adafocus_jax.types import VideoBatch

NAMES = ("uni_adafocus_tiny", "uni_adafocus_tsm_tiny", "uni_adafocus_x3d_tiny")


def batch(model, size=2):
    shape = (size, model.num_candidates, model.image_size, model.image_size, 3)
    glance = jax.ShapeDtypeStruct((size, model.num_glance, *shape[2:]), jnp.uint8)
    return VideoBatch(
        frames=jax.ShapeDtypeStruct(shape, jnp.uint8), glance=glance if model.separate_glance else None
    )


def training(model):
    """From variables and a batch to the loss, gradients, new statistics and the output of a training pass."""

    def run(variables, batch):
        draws = sample_draws(jax.random.key(1), model, batch.frames.shape[0])

        def objective(params):
            variables_ = {**variables, "params": params}
            out, updated = model.apply(variables_, batch, train=True, draws=draws, mutable=["batch_stats"])
            losses = uni_adafocus_loss(out, jnp.arange(batch.frames.shape[0], dtype=jnp.int32) % 3).mean()
            return losses.total, (losses, updated, out)

        return jax.value_and_grad(objective, has_aux=True)(variables["params"])

    return run


@pytest.mark.parametrize("name", NAMES)
def test_in_bfloat16_what_is_kept_summed_or_normalised_is_float32(name):
    model = create_model(name, num_classes=3, dtype="bfloat16")
    variables = jax.eval_shape(lambda: init_variables(model, jax.random.key(0)))
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    jaxpr, shapes = jax.make_jaxpr(training(model), return_shape=True)(variables, batch(model))
    (total, (losses, updated, out)), grads = shapes
    kept = (total, losses, updated, grads, out.exit_logits, out.frame_weights, out.actions, out.boxes)
    assert {leaf.dtype for leaf in jax.tree.leaves(kept)} == {jnp.dtype("float32")}
    found = list(equations(jaxpr.jaxpr))
    # Softmax and sigmoid, roots of variances, and sums over a batch: never in bfloat16.
    for kind in ("exp", "log", "rsqrt"):
        assert jnp.bfloat16 not in {e.invars[0].aval.dtype for e in found if e.primitive.name == kind}
    sums = [e for e in found if e.primitive.name == "reduce_sum" and e.invars[0].aval.dtype == jnp.bfloat16]
    assert all(e.invars[0].aval.size <= 4 * e.outvars[0].aval.size for e in sums)
    products = {e.invars[0].aval.dtype for e in found if e.primitive.name == "conv_general_dilated"}
    assert products == {jnp.dtype("bfloat16")}


def equations(jaxpr):
    for equation in jaxpr.eqns:
        yield equation
        for inner in jax.extend.core.jaxprs_in_params(equation.params):
            yield from equations(inner)


def test_bfloat16_looks_at_the_same_places_and_learns_the_same():
    models = [
        create_model("uni_adafocus_tiny", num_classes=3, dtype=dtype, dropout=0.0, head_dropout=0.0)
        for dtype in ("float32", "bfloat16")
    ]
    variables = init_variables(models[0], jax.random.key(0))
    shape = batch(models[0], 6).frames.shape
    # Noise in blocks: frames that are alike leave gradients of little but rounding below a batch norm.
    blocks = (*shape[:2], shape[2] // 4, shape[3] // 4, 3)
    frames = np.random.default_rng(0).integers(0, 256, blocks, dtype=np.uint8)
    frames = frames.repeat(4, axis=2).repeat(4, axis=3)
    results = [
        jax.device_get(jax.jit(training(model))(variables, VideoBatch(frames=frames))) for model in models
    ]
    ((_, (exact, _, out)), grads), ((_, (rounded, _, out_)), grads_) = results
    np.testing.assert_array_equal(out_.frame_indices, out.frame_indices)
    np.testing.assert_allclose(out_.boxes, out.boxes, atol=0.5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0.01, atol=0.002), rounded, exact)
    # Encoders that know nothing yet are the worst case: below batch norm their gradients nearly cancel.
    assert cosine(grads, grads_) > 0.98
    assert min(cosine(tree, grads_[part]) for part, tree in grads.items()) > 0.92


def cosine(one, other):
    a, b = (np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(tree)]) for tree in (one, other))
    return a @ b / (np.linalg.norm(a) * np.linalg.norm(b))


def classifier(encoder, remat):
    head = {"head": "x3d_tiny", "pool_time": True} if encoder == "x3d_tiny" else {}
    return create_model(
        "tsm_tiny", num_classes=3, encoder=encoder, image_size=24, num_candidates=4, remat=remat, **head
    )


def kept_bytes(model):
    """What the forward pass keeps for the backward pass. Not from compiling: XLA for CPUs undoes rematerialisation."""
    variables = jax.eval_shape(lambda: init_variables(model, jax.random.key(0)))
    frames = jax.ShapeDtypeStruct((4, 4, 24, 24, 3), jnp.uint8)

    def backward(variables, frames):
        def forward(params):
            everything = {**variables, "params": params}
            return model.apply(
                everything,
                VideoBatch(frames=frames),
                train=True,
                draws=sample_draws(jax.random.key(1), model, 4),
                mutable=["batch_stats"],
            )[0].logits

        return jax.vjp(forward, variables["params"])[1]

    kept = jax.tree.leaves(jax.eval_shape(backward, variables, frames))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in kept)


@pytest.mark.parametrize(
    ("encoder", "some"),
    [("mobilenet_v2_tiny", "block1"), ("resnet_tsm_tiny", "layer1_.*"), ("x3d_tiny", "stage1_.*")],
)
def test_blocks_chosen_by_name_keep_less_for_the_backward_pass(encoder, some):
    everything, part, nothing = (kept_bytes(classifier(encoder, remat)) for remat in ("", some, ".*"))
    assert nothing < part < everything
    assert nothing < 0.6 * everything
    assert kept_bytes(classifier(encoder, "lay")) == everything  # names are matched in full


def test_rematerialised_blocks_have_the_same_parameters_and_give_the_same_numbers():
    model, again = (classifier("resnet_tsm_tiny", remat) for remat in ("", ".*"))
    variables = init_variables(model, jax.random.key(0))
    frames = np.random.default_rng(0).integers(0, 255, (4, 4, 24, 24, 3), dtype=np.uint8)
    results = [jax.jit(training(one))(variables, VideoBatch(frames=frames)) for one in (model, again)]
    found = [(losses, updated, grads) for (_, (losses, updated, _)), grads in results]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-5), *found)

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.extend import core
from jax.interpreters import partial_eval

from adafocus_jax.flops import count_macs, count_params, model_cost
from adafocus_jax.models import create_model, init_variables
from adafocus_jax.models.mobilenet_v2 import MobileNetV2
from adafocus_jax.models.resnet import ResNet
from adafocus_jax.models.x3d import X3D, X3D_L, X3D_S, X3DHead
from adafocus_jax.ops.platform import lowering_for
from adafocus_jax.types import VideoBatch

SQUARE = jax.ShapeDtypeStruct((4, 4), jnp.float32)


def encoder_cost(encoder, *shape):
    frames = jax.ShapeDtypeStruct((1, *shape, 3), jnp.float32)
    variables = jax.eval_shape(lambda x: encoder.init(jax.random.key(0), x, train=False), frames)
    return count_macs(lambda v, x: encoder.apply(v, x, train=False), variables, frames), variables["params"]


@pytest.mark.parametrize(
    ("encoder", "shape", "gigas"),
    [
        (MobileNetV2(), (1, 224, 224), "0.2995"),
        (ResNet(), (1, 96, 96), "0.7507"),
        (ResNet(), (1, 128, 128), "1.3346"),
        (ResNet(), (1, 160, 160), "2.0853"),
        (ResNet(), (1, 192, 192), "3.0028"),
    ],
    ids=["mobilenet_v2", "resnet50-96", "resnet50-128", "resnet50-160", "resnet50-192"],
)
def test_published_cost_of_2d_encoders(encoder, shape, gigas):
    assert f"{encoder_cost(encoder, *shape)[0] / 1e9:.4f}" == gigas


@pytest.mark.parametrize(
    ("settings", "shape", "gigas"), [(X3D_S, (16, 160, 160), "2.42"), (X3D_L, (32, 128, 128), "5.98")]
)
def test_published_cost_of_x3d_with_its_head(settings, shape, gigas):
    encoder, _ = encoder_cost(X3D(settings=settings), *shape)
    head = 432 * 2048 + 2048 * 400
    assert f"{(encoder + head) / 1e9:.2f}" == gigas


@pytest.mark.parametrize(
    ("encoder", "millions"),
    [(MobileNetV2(), "2.224"), (ResNet(), "23.508"), (X3D(), "2.090"), (X3D(settings=X3D_L), "4.449")],
    ids=["mobilenet_v2", "resnet50", "x3d_s", "x3d_l"],
)
def test_parameters(encoder, millions):
    assert f"{count_params(encoder_cost(encoder, 1, 32, 32)[1]) / 1e6:.3f}" == millions


def test_agrees_with_xla_where_nothing_is_padded():
    """XLA counts two operations per multiply-add, and leaves padded taps out."""

    def network(x, kernel, depthwise, dense):
        numbers = ("NHWC", "HWIO", "NHWC")
        x = lax.conv_general_dilated(x, kernel, (2, 2), "VALID", dimension_numbers=numbers)
        x = lax.conv_general_dilated(
            x, depthwise, (1, 1), "VALID", dimension_numbers=numbers, feature_group_count=16
        )
        return x.reshape(2, -1) @ dense

    shapes = [(2, 15, 13, 8), (3, 3, 8, 16), (3, 3, 1, 16), (5 * 4 * 16, 10)]
    args = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    xla = jax.jit(network).lower(*args).compile().cost_analysis()["flops"]
    assert count_macs(network, *args) == xla / 2


def products_of(jaxpr):
    """Every convolution and matrix product of a program without loops, those of inner programs too."""
    for equation in jaxpr.eqns:
        assert equation.primitive.name not in ("scan", "while", "cond")
        if equation.primitive.name in ("conv_general_dilated", "dot_general"):
            yield equation
        for inner in core.jaxprs_in_params(equation.params):
            yield from products_of(inner)


def with_padding_as_input(equation):
    """The operands' shapes and parameters of an equation that reads what was padding: XLA counts those taps then."""
    left, right = (list(variable.aval.shape) for variable in equation.invars)
    params = dict(equation.params)
    if "padding" in params:
        for axis, (before, after) in zip(
            params["dimension_numbers"].lhs_spec[2:], params["padding"], strict=True
        ):
            left[axis] += before + after
        params["padding"] = ((0, 0),) * len(params["padding"])
    return [jax.ShapeDtypeStruct(tuple(shape), jnp.float32) for shape in (left, right)], params


@pytest.mark.parametrize("name", ["uni_adafocus_tiny", "uni_adafocus_tsm_tiny", "uni_adafocus_x3d_tiny"])
def test_agrees_with_xla_on_whole_models(name):
    """The convolutions and products of the whole program as XLA counts them; padded taps, which it omits, made real."""
    model = create_model(name, num_classes=7, crop="gather", glance_size=96)
    variables = jax.eval_shape(lambda: init_variables(model, jax.random.key(0)))
    shape = (1, model.num_candidates, model.image_size, model.image_size, 3)
    batch = VideoBatch(
        jnp.zeros(shape, jnp.uint8), glance=jnp.zeros((1, model.num_glance, *shape[2:]), jnp.uint8)
    )

    def predict(variables):
        return model.apply(variables, batch).exit_logits

    with lowering_for("reference"):
        program = jax.make_jaxpr(predict)(variables).jaxpr
    live, _ = partial_eval.dce_jaxpr(program, [True])
    products = [(e.primitive, *with_padding_as_input(e)) for e in products_of(live)]

    def alone(operands):
        return [
            primitive.bind(*x, **params) for (primitive, _, params), x in zip(products, operands, strict=True)
        ]

    counted = jax.jit(alone).lower([shapes for _, shapes, _ in products]).cost_analysis()["flops"]
    # XLA's number is a float32; the interpolation of boxes, about 100 products, belongs to no part.
    assert model_cost(model).exits[-1] == pytest.approx(counted / 2, rel=1e-6)


def test_padded_taps_count():
    x, kernel = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((1, 5, 5, 2), (3, 3, 2, 4)))

    def conv(x, kernel):
        return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    assert count_macs(conv, x, kernel) == 5 * 5 * 4 * 9 * 2


@jax.custom_vjp
def custom(x):
    return x @ x


custom.defvjp(lambda x: (x @ x, x), lambda x, g: (g @ x.T,))


@pytest.mark.parametrize(
    ("function", "products"),
    [
        (lambda x: jnp.einsum("ij,jk,kl->il", x, x, x), 2),
        (jax.jit(lambda x: x @ x), 1),
        (jax.checkpoint(lambda x: x @ x), 1),
        (custom, 1),
        (jax.vmap(lambda row: row), 0),
        (lambda x: lax.scan(lambda c, _: (c @ x, None), x, None, length=5)[0], 5),
        (lambda x: lax.map(lambda row: row @ x, x), 1),
        (lambda x: lax.cond(x[0, 0] > 0, lambda x: x @ x @ x, lambda x: x @ x, x), 2),
        (lambda x: lax.fori_loop(0, 3, lambda _, c: c @ x, x), 3),
        (lambda x: lax.while_loop(lambda c: c[0, 0] < 1, lambda c: c + 1, x @ x), 1),
        (jax.grad(lambda x: jnp.sin(x @ jnp.ones((4, 4))).sum()), 2),
    ],
    ids=["einsum", "jit", "remat", "custom_vjp", "none", "scan", "map", "cond", "fori", "while", "grad"],
)
def test_every_kind_of_program(function, products):
    assert count_macs(function, SQUARE) == products * 4**3


def test_a_loop_of_unknown_length_is_refused():
    with pytest.raises(ValueError, match="scan of known length"):
        count_macs(lambda x: lax.while_loop(lambda c: c[0, 0] < 1, lambda c: c @ c, x), SQUARE)


def test_count_does_not_depend_on_the_platform():
    def cost():
        return encoder_cost(MobileNetV2(width=0.25), 2, 40, 40)[0]

    with lowering_for("cpu"):
        on_cpu = cost()
    assert on_cpu == cost()


def test_count_is_of_the_head_that_is_built():
    head, features = X3DHead(400), jax.ShapeDtypeStruct((3, 432), jnp.float32)
    variables = jax.eval_shape(lambda x: head.init(jax.random.key(0), x, None, train=False), features)
    macs = count_macs(lambda v, x: head.apply(v, x, None, train=False), variables, features)
    assert macs == 3 * (432 * 2048 + 2048 * 400)

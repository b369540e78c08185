"""Primitives, one by one: the ONNX model says what JAX says; what is unknown is named."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from adafocus_jax.jaxpr_to_onnx import OPSET, UntranslatableError, to_onnx

pytest.importorskip("onnx", reason="needs the extra onnx")
ort = pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")

X = np.random.default_rng(0).standard_normal((4, 6, 8)).astype(np.float32)
KERNEL = np.random.default_rng(1).standard_normal((3, 3, 2, 6)).astype(np.float32)


def run(model, **inputs):
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, inputs), strict=True))


def take(x, at, mode):
    return x.at[jnp.arange(x.shape[0])[:, None], at].get(mode=mode, fill_value=7)


CASES = {
    "arithmetic": lambda w, x: jnp.clip(x * w["a"] - 1, -1, 2) / (1 + lax.integer_pow(x, 2)),
    "functions": lambda w, x: jnp.tanh(x) + lax.rsqrt(jnp.square(x) + 1) + jnp.floor(x) * lax.logistic(x),
    "comparisons": lambda w, x: jnp.where((x > 0) & ~(x >= 1) | (x != x), x, -x),
    "booleans": lambda w, x: jnp.tril(x[0, :6, :6] > 0)[None].repeat(x.shape[0], 0),
    "reductions": lambda w, x: jnp.stack([x.sum((1, 2)), x.max((1, 2)), x.mean((1, 2)), x.min((1, 2))], 1),
    "softmax": lambda w, x: jax.nn.softmax(x, axis=1),
    "places": lambda w, x: jnp.argmax(x > 0.5, axis=2).astype(jnp.int32),
    "cumulative": lambda w, x: lax.cummax(x, axis=1) + jnp.cumsum(x, axis=2),
    "slices": lambda w, x: jnp.concatenate([x[:, 1:5:2], jnp.pad(x[:, :1], ((0, 0), (1, 0), (0, 0)))], 1),
    "split": lambda w, x: sum(jnp.split(x, 2, axis=2)),
    "products": lambda w, x: x @ jnp.ones((8, 3)) + jnp.einsum("nij,nkj->nik", x, x[:, :3]),
    "products of several axes": lambda w, x: jnp.stack([
        jnp.einsum("nij,kj->nik", x, w["a"][None].repeat(6, 0)).sum((1, 2)),
        jnp.einsum("nij,ijk->nk", x, w["kernel"].reshape(6, 2, 9)[:, :1].repeat(8, 1)).sum(1),
        jnp.einsum("nj,njk->nk", x[:, 0], x.transpose(0, 2, 1)).sum(1)]),
    "a product with each of several matrices": lambda w, x: jnp.einsum(
        "nij,ejk->nike", x, w["a"][:, None, None] * jnp.ones((8, 8, 3))),
    "gather, whole rows": lambda w, x: w["kernel"][jnp.argmax(x[:, 0, :3], -1)],
    "convolution": lambda w, x: lax.conv_general_dilated(
        x[..., None].repeat(4, -1), w["kernel"], (2, 1), ((1, 0), (2, 1)), rhs_dilation=(1, 2),
        dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=2),
    "pooling": lambda w, x: lax.reduce_window(
        x[..., None], -jnp.inf, lax.max, (1, 3, 2, 1), (1, 2, 1, 1), ((0, 0), (1, 1), (0, 1), (0, 0))),
    "gather, promised": lambda w, x: jnp.take_along_axis(
        x, jnp.argmax(x, 2)[..., None].astype(jnp.int32), axis=2, mode="promise_in_bounds"),
    "gather, clipped": lambda w, x: take(x, w["at"], "clip"),
    "gather, filled": lambda w, x: take(x, w["at"], "fill"),
    "constants": lambda w, x: x + jnp.cumsum(jnp.sort(w["a"])),  # ONNX knows nothing of sort: done beforehand
    "tiles": lambda w, x: jnp.tile(x, (1, 2, 1)),
}  # fmt: skip
WEIGHTS = {"a": np.linspace(-1, 1, 8, dtype=np.float32), "kernel": KERNEL}


@pytest.mark.parametrize("name", CASES)
def test_each_primitive_says_what_jax_says(name):
    weights = WEIGHTS | {"at": np.array([[0, 5, 9]] * 4 if "gather" in name else [[0]], np.int32)}

    def function(w, i):
        return {"y": CASES[name](w, i["x"])}

    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        expected = np.asarray(jax.jit(function)(weights, {"x": X})["y"])
        model = to_onnx(function, weights, {"x": jax.ShapeDtypeStruct(X.shape, X.dtype)})
    found = run(model, x=X)["y"]
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_a_network_has_its_channels_first_and_its_norms_in_its_kernels():
    rng = np.random.default_rng(2)

    def conv(w, x, stride=1, groups=1):
        y = lax.conv_general_dilated(
            x.reshape(-1, *x.shape[-3:]), w, (stride,) * 2, ((1, 1), (1, 1)), feature_group_count=groups,
            dimension_numbers=("NHWC", "HWIO", "NHWC"))  # fmt: skip
        return y.reshape(*x.shape[:-3], *y.shape[1:])

    def norm(w, x):
        along = (None,) * (x.ndim - 1)
        return x * w["gain"][along] + w["offset"][along]

    def network(w, i):
        x = jax.nn.relu6(norm(w, conv(w["first"], i["x"])))
        x = jax.nn.relu(x + norm(w, conv(w["second"], x)))
        x = norm(w, conv(w["first"], x[:, :, ::2, ::2, :2]))  # of some channels: not on the twin
        x = lax.reduce_window(x[0], -jnp.inf, lax.max, (1, 2, 2, 1), (1, 1, 1, 1), "VALID")
        x = x * jax.nn.sigmoid(x[:, :1] * w["gain"][None, None, None])
        return {"y": conv(w["depthwise"], x[:, 1:], 2, 6), "before": x, "scaled": x * w["gain"][0]}

    sizes = {
        "first": (3, 3, 2, 6),
        "second": (3, 3, 6, 6),
        "depthwise": (3, 3, 1, 6),
        "gain": (6,),
        "offset": (6,),
    }
    weights = {name: rng.standard_normal(size).astype(np.float32) for name, size in sizes.items()}
    x = rng.standard_normal((1, 3, 9, 8, 2)).astype(np.float32)
    model = to_onnx(network, weights, {"x": jax.ShapeDtypeStruct(x.shape, x.dtype)})
    found = run(model, x=x)
    for name, expected in jax.jit(network)(weights, {"x": x}).items():
        np.testing.assert_allclose(found[name], expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
    kinds = [node.op_type for node in model.graph.node]
    assert (kinds.count("Conv"), kinds.count("Clip"), kinds.count("Relu")) == (4, 1, 1)
    first = kinds.index("Conv")
    assert kinds[first : first + 5] == ["Conv", "Clip", "Conv", "Add", "Relu"]  # as runtimes fuse it


def test_a_free_axis_takes_any_length():
    def function(w, i):
        x = i["x"] + w["a"]
        same = i["group"][:, None] == i["group"][None]
        return {"largest": jnp.max(jnp.where(jnp.tril(same)[..., None], x[None], -9.0), axis=1), "sum": x}

    shapes = {"x": jax.ShapeDtypeStruct((8,), np.float32), "group": jax.ShapeDtypeStruct((), np.int32)}
    with jax.numpy_rank_promotion("allow"):
        model = to_onnx(function, WEIGHTS, shapes, free_axis="rows", descriptions={"x": "numbers"})
        for rows in (1, 4, 7):
            inputs = {"x": np.tile(X[0, :1], (rows, 1)), "group": np.arange(rows, dtype=np.int32) // 2}
            expected = function(WEIGHTS, {key: jnp.asarray(value) for key, value in inputs.items()})
            for name, value in run(model, **inputs).items():
                np.testing.assert_allclose(value, expected[name], rtol=1e-6)
    (x,) = (value for value in model.graph.input if value.name == "x")
    assert (x.doc_string, x.type.tensor_type.shape.dim[0].dim_param) == ("numbers", "rows")
    assert [entry.version for entry in model.opset_import] == [OPSET]


def test_what_depends_on_the_length_of_a_free_axis_is_refused():
    row = {"x": jax.ShapeDtypeStruct((2,), np.float32)}
    with pytest.raises(UntranslatableError, match="cannot be free"):
        to_onnx(lambda w, i: {"y": i["x"] / i["x"].shape[0]}, {}, row, free_axis="rows")


def test_an_unknown_primitive_is_named_with_its_place():
    def function(w, i):
        with jax.named_scope("head"):
            return {"y": jnp.sort(i["x"])}

    with pytest.raises(UntranslatableError, match=r"'sort' \(in .*head\)"):
        to_onnx(function, {}, {"x": jax.ShapeDtypeStruct((4,), np.float32)})


def test_bfloat16_is_computed_in_float32():
    def function(w, i):
        return {"y": (i["x"].astype(jnp.bfloat16) * w["a"].astype(jnp.bfloat16)).astype(jnp.float32)}

    model = to_onnx(function, {"a": WEIGHTS["a"]}, {"x": jax.ShapeDtypeStruct((8,), np.float32)})
    np.testing.assert_allclose(run(model, x=X[0, 0])["y"], X[0, 0] * WEIGHTS["a"], rtol=1e-2)

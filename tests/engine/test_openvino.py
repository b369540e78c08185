"""The engine by OpenVINO: the results of XLA; chosen on CPUs; bfloat16 where it does no harm."""

import logging
import threading

import jax
import numpy as np
import pytest

from adafocus_jax.benchmark.inference import random_variables
from adafocus_jax.engine import Engine
from adafocus_jax.engine.openvino_graph import compile_onnx, is_installed
from adafocus_jax.errors import UserError
from adafocus_jax.evaluate.by_engine import engine_predict_function
from adafocus_jax.jaxpr_to_onnx import to_onnx
from adafocus_jax.models import create_model
from adafocus_jax.types import VideoBatch
from tests.engine.conftest import CLASSES, VIDEOS

needs_openvino = pytest.mark.skipif(not is_installed(), reason="needs the extra openvino")


@needs_openvino
@pytest.mark.parametrize("kind", ["uni", "tsm", "plain"])
def test_the_engine_by_openvino_says_what_the_model_says(kind, request):
    case = request.getfixturevalue(kind)
    predict = engine_predict_function(case.make(backend="openvino"))
    glance = case.glances if case.model.num_separate_glance else None
    found, expected = predict(VideoBatch(case.clips, glance), 0), case.expected
    scale = np.abs(expected.exit_logits).max()
    np.testing.assert_allclose(found.exit_logits, expected.exit_logits, atol=1e-5 * scale)
    np.testing.assert_array_equal(found.frame_indices, expected.frame_indices)
    np.testing.assert_allclose(found.boxes, expected.boxes, atol=1e-3)
    np.testing.assert_allclose(found.frame_weights, expected.frame_weights, atol=1e-5)
    assert (found.glance_indices is None) == (kind != "uni")


@needs_openvino
def test_auto_takes_openvino_on_a_cpu_and_says_so(plain, caplog):
    with caplog.at_level(logging.INFO, "adafocus_jax"):
        engine = plain.make(backend="auto", precision="bfloat16", devices=jax.devices())
    assert "by OpenVINO in bfloat16" in caplog.text
    assert len(engine.devices) == 1  # it takes all cores for it
    results = {result.key: result for result in engine.run(map(plain.request, range(VIDEOS)))}
    found = np.stack([results[number].logits for number in range(VIDEOS)])
    error = np.abs(found - plain.expected.exit_logits).max() / np.abs(plain.expected.exit_logits).max()
    assert 0 < error < 0.05


@needs_openvino
def test_models_are_compiled_one_at_a_time(uni, monkeypatch):
    """Several at once leave the locale at "C", and fail where they write the same file of the cache."""
    openvino = pytest.importorskip("openvino")
    compile_model, alone = openvino.Core.compile_model, threading.Lock()

    def watched(*args):
        assert alone.acquire(blocking=False)
        try:
            return compile_model(*args)
        finally:
            alone.release()

    monkeypatch.setattr(openvino.Core, "compile_model", watched)
    uni.make(backend="openvino", buckets={"look": (1, 2, 3, 4, 5)}).warm_up()


@needs_openvino
def test_where_the_cache_fails_the_model_is_compiled_all_the_same(plain, tmp_path, monkeypatch, caplog):
    openvino = pytest.importorskip("openvino")
    compile_model = openvino.Core.compile_model

    def taken(core, graph, device, settings):
        if "CACHE_DIR" in settings:
            raise RuntimeError("cannot set permissions: another process\nhas written the file")
        return compile_model(core, graph, device, settings)

    monkeypatch.setattr(openvino.Core, "compile_model", taken)
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    with caplog.at_level(logging.INFO, "adafocus_jax"):
        (result,) = plain.make(backend="openvino").run([plain.request(0)])
    assert "is not kept: cannot set permissions: another process has written the file" in caplog.text
    np.testing.assert_allclose(result.logits, plain.expected.exit_logits[0], atol=1e-4)


def test_auto_takes_xla_where_openvino_is_missing_or_does_not_know_the_model(plain, caplog, monkeypatch):
    if is_installed():
        random = create_model("uni_adafocus_tiny", num_classes=CLASSES, spatial="random", num_candidates=16)
        variables = random_variables(random)
        with caplog.at_level(logging.INFO, "adafocus_jax"):
            Engine(random, variables, backend="auto", devices=jax.devices()[:1])
        assert "by XLA: the JAX primitive 'random" in caplog.text
        with pytest.raises(UserError, match="primitive 'random"):
            Engine(random, variables, backend="openvino")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert len(plain.make(backend="auto", devices=jax.devices()).devices) == len(jax.devices())
    with pytest.raises(UserError, match=r"pip install 'adafocus_jax\[openvino\]'"):
        plain.make(backend="openvino")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backend": "tensorrt"}, "unknown engine backend='tensorrt': choose one of auto, xla, openvino"),
        ({"precision": "int8"}, "unknown precision='int8': choose one of float32, bfloat16"),
        ({"precision": "bfloat16"}, "precision='bfloat16' needs backend='openvino'"),
    ],
)
def test_what_cannot_be_is_told(plain, arguments, message):
    with pytest.raises(UserError, match=message):
        plain.make(**arguments)


@needs_openvino
def test_coordinates_are_not_rounded_in_bfloat16():
    def function(weights, inputs):
        """A pixel looked up at a computed place, then a product."""
        place = (inputs["at"] * weights["scale"]).astype("int32")
        pixel = inputs["row"][np.arange(4), place]
        return {"y": pixel[:, None] @ weights["kernel"]}

    weights = {"scale": np.float32(1.0), "kernel": np.ones((1, 8), np.float32)}
    rows = {"at": jax.ShapeDtypeStruct((), np.float32), "row": jax.ShapeDtypeStruct((1024,), np.float32)}
    with jax.numpy_rank_promotion("allow"):
        model = to_onnx(
            function, weights, {n: jax.ShapeDtypeStruct((4, *s.shape), s.dtype) for n, s in rows.items()}
        )
    at = np.array([257, 513, 771, 1023], np.float32)  # in bfloat16: 256, 512, 772, 1024
    values = np.zeros((4, 1024), np.float32)
    values[np.arange(4), at.astype(int)] = 1
    found = compile_onnx(model, 4, "bfloat16")({"at": at, "row": values})
    np.testing.assert_array_equal(found["y"], 1)


@needs_openvino
def test_narrow_maps_are_convolved_with_rows_innermost():
    def block(weights, inputs):
        """Two convolutions, one of stride 2, with a sum and activations around them."""
        numbers = ("NHWC", "HWIO", "NHWC")
        x = jax.lax.conv_general_dilated(inputs["x"], weights["a"], (2, 2), "SAME", dimension_numbers=numbers)
        x = jax.nn.relu(x + weights["bias"])
        y = jax.lax.conv_general_dilated(x, weights["b"], (1, 1), "SAME", dimension_numbers=numbers)
        return {"y": jax.nn.relu6(x + y).sum(axis=(1, 2))}

    random = np.random.default_rng(0)
    shapes = {"a": (3, 3, 2, 8), "b": (3, 3, 8, 8), "bias": (1, 1, 1, 8)}
    weights = {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    model = to_onnx(block, weights, {"x": jax.ShapeDtypeStruct((6, 6, 2), np.float32)}, free_axis="rows")
    x = random.normal(size=(5, 6, 6, 2)).astype(np.float32)
    compiled = compile_onnx(model, 5)
    np.testing.assert_allclose(compiled({"x": x})["y"], block(weights, {"x": x})["y"], rtol=1e-5)
    nodes = compiled.get_runtime_model().get_ordered_ops()
    kinds = [node.get_rt_info()["layerType"].astype(str) for node in nodes]
    assert kinds.count("Convolution") == 2
    assert sum(name.endswith("/rows_innermost") for name in map(_name, nodes)) > 0
    assert kinds.count("Transpose") <= 2  # before and after both


def _name(node):
    return node.get_friendly_name()


@needs_openvino
def test_a_cached_program_is_of_the_same_weights(tmp_path):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    row = {"x": jax.ShapeDtypeStruct((3,), np.float32)}
    for value in (1.0, 2.0, 1.0):
        weights = {"kernel": np.full((3, 2), value, np.float32)}
        model = to_onnx(lambda w, i: {"y": i["x"] @ w["kernel"]}, weights, row, free_axis="rows")
        found = compile_onnx(model, 2)({"x": np.ones((2, 3), np.float32)})["y"]
        np.testing.assert_array_equal(found, 3 * value)
    assert len(list((tmp_path / "openvino").iterdir())) == 2

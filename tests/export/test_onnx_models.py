"""Exported ONNX models say what the model says, in ONNX Runtime and in OpenVINO, and tell how they are to be used."""

import json

import numpy as np
import pytest

from adafocus_jax.cli.main import main
from adafocus_jax.engine.openvino_graph import is_installed
from adafocus_jax.errors import UserError
from adafocus_jax.export import export_onnx, read_manifest
from adafocus_jax.jaxpr_to_onnx import OPSET
from adafocus_jax.safetensors import read_arrays
from tests.export.conftest import CLASSES, error

onnx = pytest.importorskip("onnx", reason="needs the extra onnx")
ort = pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")

TOLERANCE = 1e-5


def load(path, library):
    if library == "onnxruntime":
        session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        wanted = [given.name for given in session.get_inputs()]
        return lambda values: dict(zip(names, session.run(None, {n: values[n] for n in wanted}), strict=True))
    if not is_installed():
        pytest.skip("needs OpenVINO")
    from adafocus_jax.engine.openvino_graph import import_openvino

    core = import_openvino().Core()
    compiled = core.compile_model(core.read_model(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    names = [value.name for value in onnx.load(path).graph.output]

    def call(values):
        found = compiled({value.any_name: values[value.any_name] for value in compiled.inputs})
        return {name: np.array(found[name]) for name in names}

    return call


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    """Stages with a free axis, and the whole for three videos."""
    folder = tmp_path_factory.mktemp("out")
    assert main(["export", str(run.workdir), str(folder / "stages")]) == 0
    export_onnx(run.workdir, folder / "whole", whole=True, rows=[3])
    return folder


def look(stage, model, values, candidates):
    """Logits of the exits behind the glance, patch by patch or video by video, as a program of the reader's would."""
    videos, chosen = values["indices"].shape
    frames = np.stack([clip[at] for clip, at in zip(candidates, values["indices"], strict=True)])
    if "depth" not in model.stages()[-1].inputs:
        return stage({**values, "frames": frames})["logits"]
    hidden, logits = values["hidden"], []
    for depth in range(chosen):
        patches = {"frames": frames[:, depth, None], "boxes": values["boxes"][:, depth, None]}
        where = {"depth": np.full(videos, depth, np.int32), "slot": np.arange(videos, dtype=np.int32)}
        found = stage({**patches, **where, "memory": values["memory"], "hidden": hidden})
        hidden = found["next_hidden"]
        logits.append(found["logits"])
    return np.concatenate(logits, axis=1)


@pytest.mark.parametrize("library", ["onnxruntime", "openvino"])
def test_stages_and_the_whole_say_what_the_model_says(run, exported, library):
    batch = run.batch(3)
    expected = run.apply(batch)
    whole = load(exported / "whole" / "whole-3.onnx", library)
    given = {"frames": batch.frames, "glance_frames": batch.glance}
    for name, value in whole(given).items():
        assert error(value, getattr(expected, name)) < TOLERANCE, name
    glance = batch.glance
    if glance is None:
        at = run.model.glance_candidates
        glance = batch.frames if at is None else batch.frames[:, at]
    values = load(exported / "stages" / "glance.onnx", library)({"frames": glance})
    logits = values["logits"]
    if (exported / "stages" / "choose.onnx").exists():
        values |= load(exported / "stages" / "choose.onnx", library)(values)
        np.testing.assert_array_equal(values["indices"], expected.frame_indices)
        stage = load(exported / "stages" / "look.onnx", library)
        logits = np.concatenate([logits, look(stage, run.model, values, batch.frames)], axis=1)
    assert error(logits, expected.exit_logits) < TOLERANCE


def test_models_give_their_golden_outputs(exported):
    for name, file in read_manifest(exported / "stages")["files"].items():
        golden = read_arrays(exported / "stages" / file["golden"])
        given = {key.removeprefix("inputs/"): value for key, value in golden.items() if "inputs/" in key}
        found = load(exported / "stages" / name, "onnxruntime")(given)
        assert {f"outputs/{key}" for key in found} == {key for key in golden if "outputs/" in key}
        for key, value in found.items():
            np.testing.assert_allclose(value, golden[f"outputs/{key}"], rtol=1e-4, atol=1e-5)


def test_manifest_and_models_say_how_they_are_to_be_used(run, exported):
    manifest = read_manifest(exported / "stages")
    assert (manifest["format"], manifest["opset"], manifest["classes"]) == ("onnx", OPSET, list(CLASSES))
    assert manifest["preprocessing"]["crop_px"] == run.model.image_size
    assert {f"{stage.name}.onnx" for stage in run.model.stages()} == set(manifest["files"])
    assert [policy["thresholds"][0] for policy in manifest["exits"]["policies"]] in ([0.9], [])
    for name, file in manifest["files"].items():
        assert all(value["meaning"] for key in ("inputs", "outputs") for value in file[key].values())
        model = onnx.load(exported / "stages" / name)
        metadata = {entry.key: entry.value for entry in model.metadata_props}
        assert json.loads(metadata["classes"]) == list(CLASSES)
        assert metadata["stage"] == file["stage"]
        assert json.loads(metadata["exits"]) == manifest["exits"]
    frames = manifest["files"]["glance.onnx"]["inputs"]["frames"]
    assert (frames["dtype"], frames["shape"][0]) == ("uint8", "rows")
    whole = read_manifest(exported / "whole")["files"]["whole-3.onnx"]
    assert whole["outputs"]["logits"]["shape"] == [3, len(CLASSES)]


def test_a_missing_package_is_named_with_its_command(uni, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'adafocus_jax\[onnx\]'"):
        export_onnx(uni.workdir, tmp_path / "out")

"""``adafocus export --format onnx``."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from adafocus_jax.engine.stage_program import stage_programs
from adafocus_jax.export.about import MEANINGS, about, whole_inputs
from adafocus_jax.export.files import require_new, write_manifest
from adafocus_jax.export.golden import write_golden
from adafocus_jax.flops import stage_costs
from adafocus_jax.io import write_bytes, writing
from adafocus_jax.jaxpr_to_onnx import OPSET, require_onnx, to_onnx
from adafocus_jax.models import VideoModel
from adafocus_jax.predict.loading import load_model
from adafocus_jax.types import VideoBatch

_WHOLE = ("logits", "exit_logits", "frame_indices", "boxes", "frame_weights")


def export_onnx(
    checkpoint: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    which: str = "best",
    whole: bool = False,
    rows: Sequence[int] = (),
) -> dict[str, Any]:
    """Writes a checkpoint as ONNX models, from uint8 frames to logits, with a manifest.

    By default, each stage of inference becomes a model, so that a program of the reader's can stop at an exit:
    ``glance`` (frames to features and the glance's exits), ``choose`` (features to frames and boxes), ``look``
    (patches to the exits behind). A row of ``look`` is a patch in ``uni_adafocus``, else a video. Beside them lies a
    golden input with its output for each.

    Args:
      checkpoint: a workdir, or a folder of checkpoints.
      out: the folder to make.
      which: ``best`` or ``latest``.
      whole: one model without exits in place of the stages.
      rows: lengths of the leading axis to make a model of each for; none: one model, whose leading axis is free.

    Returns:
      The manifest.

    Raises:
      UserError: ``out`` exists, the package ``onnx`` is missing, or the model does what the translation does not know
        (random controls, an encoder of a plugin with an unknown primitive).
    """
    require_onnx()
    require_new(out)
    trained = load_model(checkpoint, which)
    facts, variables = about(trained), trained.checkpoint.variables
    model = trained.model
    programs: Mapping[str, Any] = (
        {"whole": _WholeProgram(model)} if whole else stage_programs(model, stage_costs(model))
    )
    files = {}
    with writing(out) as folder:
        folder.mkdir()
        for name, program in programs.items():
            golden = write_golden(folder, name, program, variables, program.inputs)
            for count in rows or (None,):
                shapes = program.inputs
                if count:
                    shapes = {n: jax.ShapeDtypeStruct((count, *s.shape), s.dtype) for n, s in shapes.items()}
                made = to_onnx(
                    program,
                    variables,
                    shapes,
                    name=name,
                    free_axis=None if count else "rows",
                    descriptions=MEANINGS,
                )
                file = f"{name}-{count}.onnx" if count else f"{name}.onnx"
                _add_metadata(made, {**facts, "stage": name})
                write_bytes(folder / file, made.SerializeToString())
                files[file] = {"stage": name, "rows": count, "golden": golden, **_interface(made)}
        return write_manifest(folder, {"format": "onnx", "opset": OPSET, **facts, "files": files})


def _add_metadata(model: Any, facts: Mapping[str, Any]) -> None:
    for key, value in facts.items():
        model.metadata_props.add(key=key, value=value if isinstance(value, str) else json.dumps(value))


def _interface(model: Any) -> dict[str, Any]:
    from onnx import helper

    def shapes(values: Any) -> dict[str, Any]:
        return {
            value.name: {
                "shape": [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim],
                "dtype": helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name,
                "meaning": value.doc_string,
            }
            for value in values
        }

    return {"inputs": shapes(model.graph.input), "outputs": shapes(model.graph.output)}


class _WholeProgram:
    """The model in one go."""

    def __init__(self, model: VideoModel) -> None:
        self._model, self.inputs = model, whole_inputs(model)

    def __call__(self, variables: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
        out = self._model.apply(variables, VideoBatch(inputs["frames"], inputs.get("glance_frames")))
        return {name: getattr(out, name) for name in _WHOLE}

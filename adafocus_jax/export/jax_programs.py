"""``adafocus export --format jax``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.export
import numpy as np

from adafocus_jax.engine.stage_program import StageProgram, stage_programs
from adafocus_jax.errors import UserError
from adafocus_jax.export.about import about, described
from adafocus_jax.export.exported_model import PLATFORMS, WEIGHTS
from adafocus_jax.export.files import require_new, write_manifest
from adafocus_jax.export.golden import write_golden
from adafocus_jax.flops import stage_costs
from adafocus_jax.io import write_bytes, writing
from adafocus_jax.ops.platform import lowering_for
from adafocus_jax.predict.loading import load_model
from adafocus_jax.safetensors import write_arrays

ROWS = (1, 8)


def export_jax(
    checkpoint: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    which: str = "best",
    platforms: Sequence[str] = ("cpu",),
    rows: Sequence[int] = ROWS,
) -> dict[str, Any]:
    """Writes the stages of a checkpoint as programs of JAX (StableHLO), which ``load`` runs.

    ``load`` needs JAX and this package's ``export`` alone, neither Flax nor the models. A program for each platform,
    stage and bucket size; the weights once beside them; a golden input with its output for each stage.

    Args:
      checkpoint: a workdir, or a folder of checkpoints.
      out: the folder to make.
      which: ``best`` or ``latest``.
      platforms: of ``cpu``, ``cuda``, ``tpu``; none of them need be here.
      rows: bucket sizes.

    Returns:
      The manifest.

    Raises:
      UserError: ``out`` exists, or an unknown platform.
    """
    for platform in platforms:
        if platform not in PLATFORMS:
            raise UserError(f"unknown platforms={platform!r}: choose among {', '.join(PLATFORMS)}")
    require_new(out)
    trained = load_model(checkpoint, which)
    leaves, structure = jax.tree.flatten(trained.checkpoint.variables)
    paths = jax.tree_util.tree_leaves_with_path(trained.checkpoint.variables)
    names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in paths]
    weights = dict(zip(names, map(np.asarray, leaves), strict=True))
    programs = stage_programs(trained.model, stage_costs(trained.model))
    stages: dict[str, Any] = {}
    with writing(out) as folder:
        folder.mkdir()
        write_arrays(folder / WEIGHTS, weights)
        for name, program in programs.items():
            run = partial(_run, program, structure, names)
            outputs = _write_programs(folder, name, run, weights, program.inputs, platforms, rows)
            shown = described(program.inputs, program.inputs), described(outputs, outputs)
            stages[name] = {"inputs": shown[0], "outputs": shown[1]}
            write_golden(folder, name, run, weights, program.inputs)
        content = {"format": "jax", **about(trained), "stages": stages, "rows": sorted(rows)}
        content["platforms"] = list(platforms)
        content["calling_convention"] = jax.export.maximum_supported_calling_convention_version
        manifest = write_manifest(folder, content)
    return manifest


def _run(program: StageProgram, structure: Any, names: list[str], weights: Any, inputs: Any) -> Any:
    return program(jax.tree.unflatten(structure, [weights[name] for name in names]), inputs)


def _write_programs(
    folder: Path,
    stage: str,
    run: Any,
    weights: dict[str, np.ndarray],
    inputs: Any,
    platforms: Sequence[str],
    rows: Sequence[int],
) -> dict[str, jax.ShapeDtypeStruct]:
    """Writes all programs of a stage; returns one row of its outputs."""
    for platform in platforms:
        for count in rows:
            shapes = {n: jax.ShapeDtypeStruct((count, *s.shape), s.dtype) for n, s in inputs.items()}
            with lowering_for(PLATFORMS[platform]):
                exported = jax.export.export(jax.jit(run), platforms=[platform])(weights, shapes)
            write_bytes(folder / platform / f"{stage}-{count}.bin", bytes(exported.serialize()))
    outputs = jax.tree.unflatten(exported.out_tree, exported.out_avals)
    return {name: jax.ShapeDtypeStruct(one.shape[1:], one.dtype) for name, one in outputs.items()}

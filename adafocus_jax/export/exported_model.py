"""Programs of ``adafocus export --format jax``, run with JAX alone."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.export
import numpy as np

from adafocus_jax.errors import UserError
from adafocus_jax.export.files import read_manifest
from adafocus_jax.export.golden import GOLDEN
from adafocus_jax.safetensors import read_arrays

PLATFORMS = {"cpu": "cpu", "cuda": "gpu", "tpu": "tpu"}
"""Platform of an export to JAX's name of the backend."""
WEIGHTS = "weights.safetensors"
_TOLERANCE = 1e-2
"""Of golden outputs, relative to the largest: platforms round differently, TPUs in bfloat16."""


class ExportedModel:
    """The stages of a model, each a function of named arrays."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        """As ``load``."""
        self.folder, self.manifest = Path(folder), read_manifest(folder)
        """``manifest`` holds classes, preprocessing, exit thresholds, and inputs and outputs of each stage."""
        if self.manifest["format"] != "jax":
            raise UserError(f"{folder} holds {self.manifest['format']} files: load reads those of format jax")
        self._check_version()
        backend = jax.default_backend()
        self.platform = next((name for name, jaxs in PLATFORMS.items() if jaxs == backend), backend)
        if self.platform not in self.manifest["platforms"]:
            raise UserError(
                f"{folder} is for {', '.join(self.manifest['platforms'])}, and this is {self.platform}: export anew "
                f"with platforms={self.platform}"
            )
        self._weights = jax.device_put(read_arrays(self.folder / WEIGHTS))
        self._programs: dict[tuple[str, int], Any] = {}

    def _check_version(self) -> None:
        least = jax.export.minimum_supported_calling_convention_version
        most = jax.export.maximum_supported_calling_convention_version
        if not least <= self.manifest["calling_convention"] <= most:
            raise UserError(
                f"{self.folder} was exported with JAX {self.manifest['versions']['jax']}, which JAX {jax.__version__} "
                "cannot read: install that version, or export anew"
            )

    def __call__(self, stage: str, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Runs a stage on any number of rows, padded to the next bucket size.

        Args:
          stage: of ``manifest["stages"]``.
          inputs: its inputs, each ``[rows, …]``; at most the largest bucket size.

        Raises:
          UserError: an unknown stage, inputs that are not those of the manifest, or too many rows.
        """
        if stage not in self.manifest["stages"]:
            raise UserError(f"unknown stage={stage!r}: choose one of {', '.join(self.manifest['stages'])}")
        wanted = self.manifest["stages"][stage]["inputs"]
        given = {name: np.asarray(inputs[name]) for name in wanted if name in inputs}
        rows = len(next(iter(given.values()), ()))
        for name, about in wanted.items():
            found = given.get(name)
            if (
                found is None
                or [rows, *about["shape"]] != list(found.shape)
                or about["dtype"] != found.dtype.name
            ):
                shown = "missing" if found is None else f"{found.dtype.name} {list(found.shape)}"
                raise UserError(
                    f"{stage} takes {name} as {about['dtype']} [rows, *{about['shape']}], not {shown}"
                )
        size = next((size for size in self.manifest["rows"] if size >= rows), None)
        if size is None or not rows:
            raise UserError(f"{rows} rows of {stage}: give 1 to {self.manifest['rows'][-1]}")
        padded = {name: _padded(name, value, size) for name, value in given.items()}
        found = self._program(stage, size)(self._weights, padded)
        return {name: np.asarray(value)[:rows] for name, value in found.items()}

    def _program(self, stage: str, size: int) -> Any:
        if (stage, size) not in self._programs:
            content = (self.folder / self.platform / f"{stage}-{size}.bin").read_bytes()
            self._programs[stage, size] = jax.jit(jax.export.deserialize(bytearray(content)).call)
        return self._programs[stage, size]

    def check(self) -> dict[str, float]:
        """The error of each stage on its golden input, relative to the largest value.

        Raises:
          UserError: an error that rounding does not explain.
        """
        errors = {}
        for stage in self.manifest["stages"]:
            golden = read_arrays(self.folder / GOLDEN.format(stage=stage))
            inputs = {n.removeprefix("inputs/"): v for n, v in golden.items() if n.startswith("inputs/")}
            found = self(stage, inputs)
            differences = (
                np.abs(value - golden[f"outputs/{name}"]).max()
                / max(1e-9, np.abs(golden[f"outputs/{name}"]).max())
                for name, value in found.items()
            )
            errors[stage] = float(max(differences))
            if not errors[stage] <= _TOLERANCE:
                raise UserError(f"{self.folder}: {stage} is off by {errors[stage]:.2g} on its golden input")
        return errors


def _padded(name: str, value: np.ndarray, size: int) -> np.ndarray:
    # Padding is a video of its own, whose patches mix with no other's.
    fill = np.iinfo(np.int32).min if name == "slot" else 0
    widths = [(0, size - len(value)), *[(0, 0)] * (value.ndim - 1)]
    return np.pad(value, widths, constant_values=fill)


def load(folder: str | os.PathLike[str]) -> ExportedModel:
    """Reads what ``adafocus export --format jax`` wrote, every file of it checked against its checksum.

    Example:
      model = load("exported")
      found = model("glance", {"frames": frames})      # uint8 [rows, G, H, W, 3]
      found["logits"], model.manifest["classes"]

    Raises:
      UserError: a file that is missing, changed or foreign, another version of JAX than can read it, or no programs
        for this platform.
    """
    return ExportedModel(folder)

"""Where checkpoints lie and how they are read back.

A folder of checkpoints holds ``config.json``, the whole configuration of the run, and a folder per step, named by
its number. ``config.json`` and one such folder are all that evaluation needs. Arrays carry a checksum of
their own, the other files have theirs in ``SHA256SUMS`` beside them.
"""

from __future__ import annotations

import json
import logging
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
import tensorstore
from flax.traverse_util import flatten_dict

from adafocus_jax.checkpoint.manifest import read_listed
from adafocus_jax.errors import UserError, remedy
from adafocus_jax.watchdog import watched

log = logging.getLogger(__name__)

FOLDER = "checkpoints"
"""The name of the folder of checkpoints within a workdir."""
CONFIG_FILE = "config.json"
STATE, METRICS, CHECKSUM = "state", "metrics", "checksum"


class LoadedCheckpoint(NamedTuple):
    """A checkpoint on the host."""

    config: dict[str, Any]
    """The whole configuration that the run was started with."""
    variables: dict[str, Any]
    """``{"params", "batch_stats"}``, NumPy arrays."""
    step: int
    """Updates done."""


class DamagedCheckpointError(Exception):
    """A checkpoint that cannot be read, with the reason in one line."""


def load_checkpoint(directory: str | os.PathLike[str], which: str = "best") -> LoadedCheckpoint:
    """Reads the best or the latest checkpoint of a run; if it is damaged, the next one, with a warning.

    Args:
      directory: a workdir of ``adafocus train``, its ``checkpoints`` folder, or the folder of one step.
      which: ``best`` (highest score in evaluation; the latest where none was evaluated) or ``latest``.

    Raises:
      UserError: there is no checkpoint, or none that can be read.
    """
    folder, step = _locate(Path(directory))
    config = read_config(folder)
    if which not in ("best", "latest"):
        raise UserError(f"unknown checkpoint {which!r}: choose best or latest")
    steps = [step] if step is not None else _ranked_steps(folder, which)
    if not steps:
        raise UserError(f"{folder} holds a configuration but no checkpoint yet: train longer")
    reasons = []
    for number in steps:
        try:
            state = read_step(folder / str(number))
        except DamagedCheckpointError as error:
            log.warning("checkpoint %s is damaged (%s): trying another", folder / str(number), error)
            reasons.append(f"{number}: {error}")
        else:
            return LoadedCheckpoint(config, {key: state[key] for key in ("params", "batch_stats")}, number)
    raise UserError(
        f"no readable checkpoint in {directory} ({'; '.join(reasons)}): use another run, or train again"
    )


def checkpoint_folder(directory: str | os.PathLike[str]) -> Path:
    """The folder of checkpoints that ``directory`` means: a workdir, that folder itself, or one step in it.

    Raises:
      UserError: it is none of these.
    """
    return _locate(Path(directory))[0]


def read_config(folder: Path) -> dict[str, Any]:
    """The configuration beside the checkpoints. Raises UserError where it is not what was written, or not JSON."""
    path = folder / CONFIG_FILE
    try:
        return dict(json.loads(read_listed(path)))
    except UserError:
        raise
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the configuration {path}: {error}") from error


def step_numbers(folder: Path) -> list[int]:
    """The steps of which ``folder`` holds a checkpoint, increasing."""
    names = (path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else ()
    return sorted(int(name) for name in names if name.isdecimal())


def read_metrics(step_folder: Path) -> dict[str, float]:
    """Metrics of the evaluation at this step, and ``score``, which ranks checkpoints. Empty without an evaluation.

    Raises:
      DamagedCheckpointError: the file is not what was written.
    """
    try:
        found = json.loads(read_listed(step_folder / METRICS / METRICS, step_folder.parent))
        return {str(name): float(value) for name, value in found.items()}
    except FileNotFoundError:
        return {}
    except UserError as error:
        raise DamagedCheckpointError(str(error)) from error
    except (ValueError, TypeError, AttributeError) as error:
        raise DamagedCheckpointError(f"its metrics are not numbers by name: {one_line(error)}") from error


def read_step(step_folder: Path) -> dict[str, Any]:
    """The state of one step as nested dictionaries of NumPy arrays.

    Raises:
      DamagedCheckpointError: something is missing, cut short or changed.
      UserError: storage does not give it, which says nothing about what it holds.
    """
    # Orbax reads everything at once, and on damage floods the log from several threads. So check first.
    try:
        with watched(f"the checkpoint {step_folder} to be read"):
            store = {"driver": "ocdbt", "base": f"file://{(step_folder / STATE).resolve()}/"}
            opened = tensorstore.KvStore.open(store).result()
            keys = opened.list().result()
            if not keys:
                raise FileNotFoundError("its arrays are gone")
            for key in keys:
                opened.read(key).result()
            with ocp.StandardCheckpointer() as checkpointer:
                state = dict(checkpointer.restore((step_folder / STATE).resolve()))
    except Exception as error:  # Orbax and tensorstore raise whatever their formats' parsers do
        if advice := remedy(error):
            raise UserError(
                f"the checkpoint {step_folder} cannot be read ({one_line(error, 400)}): {advice} and start again, or "
                "move that folder elsewhere to use the checkpoint before it"
            ) from error
        raise DamagedCheckpointError(one_line(error)) from error
    if int(state.pop(CHECKSUM)) != checksum(state):
        raise DamagedCheckpointError("its values differ from those that were saved")
    return state


def checksum(state: Any) -> int:
    """CRC-32 of all arrays, in the order of their paths: neither Orbax nor tensorstore notices a changed number.

    >>> checksum({"a": np.zeros(2, np.float32)}) == checksum({"a": np.array([0, 1e-30], np.float32)})
    False
    """
    crc = 0
    for leaf in jax.tree.leaves(state):
        crc = zlib.crc32(np.ascontiguousarray(leaf).tobytes(), crc)
    return crc


def require_same_arrays(found: Mapping[str, Any], expected: Mapping[str, Any], where: str) -> None:
    """Raises UserError, naming the first differences, unless both trees hold the same names, shapes and dtypes."""
    have, want = (flatten_dict(dict(tree), sep="/") for tree in (found, expected))
    differences = [f"{name} is missing" for name in sorted(want.keys() - have.keys())]
    differences += [f"{name} is not in the model" for name in sorted(have.keys() - want.keys())]
    for name in sorted(have.keys() & want.keys()):
        shapes = [f"{tuple(tree[name].shape)} {np.dtype(tree[name].dtype)}" for tree in (have, want)]
        if shapes[0] != shapes[1]:
            differences.append(f"{name} is {shapes[0]}, the model wants {shapes[1]}")
    if differences:
        more = f"; and {len(differences) - 3} more" if len(differences) > 3 else ""
        raise UserError(f"{where} belongs to another model: {'; '.join(differences[:3])}{more}")


def _locate(path: Path) -> tuple[Path, int | None]:
    """The folder of checkpoints that ``path`` means, and the step if it names one."""
    if not path.is_dir():
        raise UserError(f"no such checkpoint folder: {path}")
    for folder in (path, path / FOLDER):
        if (folder / CONFIG_FILE).is_file():
            return folder, None
    parent = path.resolve().parent
    if path.resolve().name.isdecimal() and (parent / CONFIG_FILE).is_file():
        return parent, int(path.resolve().name)
    raise UserError(
        f"{path} is not a checkpoint: give the workdir of a training run, its {FOLDER} folder, or one step in it"
    )


def _ranked_steps(folder: Path, which: str) -> list[int]:
    def rank(step: int) -> tuple[float, int]:
        try:
            score = read_metrics(folder / str(step)).get("score", -np.inf)
        except DamagedCheckpointError as error:
            log.warning("step %d counts as not evaluated: %s", step, error)
            score = -np.inf
        return (score if which == "best" else 0.0), step

    return sorted(step_numbers(folder), key=rank, reverse=True)


def one_line(error: Exception, most: int = 160) -> str:
    """Kind and beginning of an error's text, ``most`` characters of it."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:most]}"

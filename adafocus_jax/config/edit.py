"""Changes settings of a run on purpose: its ``config.json``, and the checksum beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from adafocus_jax.checkpoint import checkpoint_folder, load_checkpoint, require_same_arrays
from adafocus_jax.checkpoint.manifest import write_listed
from adafocus_jax.checkpoint.read import CONFIG_FILE
from adafocus_jax.config.arguments import make_model
from adafocus_jax.config.complete import complete
from adafocus_jax.config.read import check_config
from adafocus_jax.errors import UserError
from adafocus_jax.io import StrPath, json_text
from adafocus_jax.models import variable_shapes
from adafocus_jax.train.lock import WorkdirLock


def edit_config(run: StrPath, changes: Sequence[str]) -> dict[str, Any]:
    """Sets settings of a run that is not being trained.

    Args:
      run: its workdir.
      changes: ``KEY=VALUE``, keys as in config files, such as ``data.dir=/records``.

    Returns:
      The settings that changed, by dotted key.

    Raises:
      UserError: no such key, a value of another type or out of range, a model that the checkpoints do not fit, or a
        run in progress.
    """
    folder, loaded = checkpoint_folder(run), load_checkpoint(run)
    before = complete(loaded.config)
    with WorkdirLock(folder.parent):
        rest = {key: value for key, value in before.items() if key != "classes"}
        config = ConfigDict(_with_tuples(rest)).lock()
        after = {**before, **check_config(config, [f"--config.{change}" for change in changes])}
        if after["model"]["num_classes"] != len(after["classes"]):
            raise UserError(f"model.num_classes: the run has {len(after['classes'])} classes")
        expected = {"params": {}, "batch_stats": {}, **variable_shapes(make_model(after))}
        require_same_arrays(loaded.variables, expected, f"with {', '.join(changes)} the checkpoint in {run}")
        write_listed(folder / CONFIG_FILE, json_text(after))
    old = flatten_dict(before, sep=".")
    return {key: value for key, value in flatten_dict(after, sep=".").items() if old.get(key) != value}


def _with_tuples(value: Any) -> Any:
    """JSON has only lists, and a config file only tuples."""
    if isinstance(value, dict):
        return {key: _with_tuples(part) for key, part in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value

"""From a config file and flags to checked settings: nested dictionaries of what JSON holds."""

from __future__ import annotations

import json
import os
import runpy
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from adafocus_jax.checkpoint import checkpoint_folder
from adafocus_jax.checkpoint.read import read_config as saved_config
from adafocus_jax.config.checks import check_keys, check_values
from adafocus_jax.config.complete import complete
from adafocus_jax.data.records.storage import absolute
from adafocus_jax.errors import UserError
from adafocus_jax.plugins import import_plugins


def load_config(file: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Reads ``FILE[:VARIANT]`` and makes its settings: ``check_config(read_config(file), overrides)``."""
    return check_config(read_config(file), overrides)


def read_config(file: str) -> ConfigDict:
    """What ``get_config`` of ``FILE[:VARIANT]`` returns, locked.

    Raises:
      UserError: no such file or variant, or it does not load.
    """
    path, _, variant = file.partition(":")
    if not os.path.isfile(path):
        raise UserError(f"no such config file: {path!r}; give one, e.g. configs/demo.py")
    try:
        config = runpy.run_path(path)["get_config"](*[variant] if variant else [])
    except UserError as error:
        raise UserError(f"config {file}: {error}") from error
    except Exception as error:  # whatever the file does wrong; --debug shows where
        text = " ".join(str(error).split())
        raise UserError(f"config {file} does not load: {type(error).__name__}: {text}") from error
    if not isinstance(config, ConfigDict):
        raise UserError(f"config {file} does not load: get_config() returns no ConfigDict")
    return config.lock()


def check_config(config: ConfigDict, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Applies flags such as ``--config.optimizer.lr=0.1``, and checks every value.

    Returns:
      Nested dictionaries of what JSON holds; ``data.dir`` absolute, remote, or empty.

    Raises:
      UserError: no such key, a value of another type or out of range.
    """
    check_keys(config, overrides)
    values = flags.FlagValues()
    argv = ["adafocus", *overrides]
    try:
        config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=argv)
        rest = values(argv)[1:]
    except (flags.Error, TypeError, ValueError) as error:
        raise UserError(" ".join(str(error).split())) from error
    if rest:
        raise UserError(f"unknown argument {rest[0]!r}: change the config with --config.KEY=VALUE")
    settings = dict(json.loads(json.dumps(values.config.to_dict())))
    import_plugins(settings["plugins"])
    for section, key in (("data", "dir"), ("init", "checkpoint")):
        settings[section][key] = absolute(settings[section][key])
    check_values(settings)
    return settings


def read_run_config(workdir: str | os.PathLike[str], overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The settings of a run, also of an earlier version, to be run again; arguments and errors as for ``check_config``.

    Raises:
      UserError: there is no run in ``workdir``.
    """
    settings = complete(saved_config(checkpoint_folder(workdir)))
    del settings["classes"]  # the data's
    config, groups = ConfigDict(settings), ConfigDict(sort_keys=False)  # the first group that fits counts
    for name, group in settings["optimizer"]["groups"].items():
        groups[name] = ConfigDict(group)
    config.optimizer.groups = groups
    return check_config(config.lock(), overrides)


def for_classes(
    settings: Mapping[str, Any], classes: Sequence[str], traits: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The settings completed by what the data say: class names, under ``classes``, and what was left open.

    Args:
      settings: of ``load_config``.
      classes: K class names.
      traits: those of the ``Source``, which hold where ``data.flip`` and ``train.best_metric`` are not given; without
        them clips are mirrored, and top-1 chooses the best checkpoint.

    Raises:
      UserError: the config asks for another number of classes.
    """
    wanted = settings["model"]["num_classes"]
    if wanted not in (0, len(classes)):
        raise UserError(
            f"config.model.num_classes is {wanted}, but {settings['data']['dir']} has {len(classes)} classes: "
            "leave it at 0 to take those of the data"
        )
    data, train, traits = dict(settings["data"]), dict(settings["train"]), traits or {}
    if data["flip"] is None:
        data["flip"] = bool(traits.get("flip", True) or data["flip_labels"])
    train["best_metric"] = train["best_metric"] or traits.get("metric", "top1")
    return {
        **settings,
        "model": {**settings["model"], "num_classes": len(classes)},
        "data": data,
        "train": train,
        "classes": list(classes),
    }

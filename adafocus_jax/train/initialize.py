"""Fine-tuning: a new run starts from the checkpoint of another, and the log says what came of each array."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Any

from flax.traverse_util import flatten_dict, unflatten_dict

from adafocus_jax.checkpoint import load_checkpoint, require_same_arrays
from adafocus_jax.models import VideoModel, variable_shapes

log = logging.getLogger(__name__)


def initialize_from(
    directory: str | os.PathLike[str], model: VideoModel, classes: Sequence[str], fresh: dict[str, Any]
) -> dict[str, Any]:
    """Takes the variables of the best checkpoint in ``directory`` for a new run of ``model``.

    Where the classes are others (in number, order or name), arrays with an axis of classes stay as in ``fresh``. All
    else has to be there, and to fit.

    Args:
      directory: a workdir of ours, or what ``adafocus convert`` made.
      model: of the new run.
      classes: K names of the new run.
      fresh: ``{"params", "batch_stats"}`` of ``init_variables(model)``.

    Returns:
      ``{"params", "batch_stats"}``.

    Raises:
      UserError: no such checkpoint, or an array that is missing, left over or of another shape.
    """
    loaded = load_checkpoint(directory)
    theirs = loaded.config["classes"]
    left = class_arrays(model) if classes_differ(theirs, classes) else frozenset()
    found, wanted = (flatten_dict(tree, sep="/") for tree in (loaded.variables, fresh))
    taken = {name: array for name, array in found.items() if name not in left}
    expected = {name: array for name, array in wanted.items() if name not in left}
    require_same_arrays(taken, expected, f"checkpoint {directory}")
    log.info("initialised from %s (step %d): %d arrays taken", directory, loaded.step, len(taken))
    if left:
        log.info(
            "its %d classes are not the %d of the data; dropped and initialised anew: %s",
            *(len(theirs), len(classes), ", ".join(sorted(left))),
        )
    return unflatten_dict({**wanted, **taken}, sep="/")


def class_arrays(model: VideoModel) -> frozenset[str]:
    """Paths of the arrays with an axis of classes, such as ``params/global_head/linear/kernel``."""
    shapes = [
        flatten_dict(variable_shapes(m), sep="/")
        for m in (model, model.clone(num_classes=model.num_classes + 1))
    ]
    return frozenset(name for name, leaf in shapes[0].items() if leaf.shape != shapes[1][name].shape)


def classes_differ(theirs: Sequence[str], ours: Sequence[str]) -> bool:
    """Whether logits mean other classes. Made-up names, as ``adafocus convert`` gives, are taken for any.

    >>> classes_differ(["run", "jump"], ["jump", "run"]), classes_differ(["class 0", "class 1"], ["jump", "run"])
    (True, False)
    """
    return list(theirs) != list(ours) and not (is_unnamed(theirs) and len(theirs) == len(ours))


def is_unnamed(classes: Sequence[str]) -> bool:
    """Whether all names are made up, as ``adafocus convert`` does without ``--classes``.

    >>> is_unnamed(["class 0", "class 1"]), is_unnamed(["run", "class 1"])
    (True, False)
    """
    return all(name == f"class {k}" for k, name in enumerate(classes))

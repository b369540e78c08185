"""Variables from PyTorch's state dicts and back, by name, strictly. Needs no PyTorch."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from adafocus_jax.checkpoint.read import require_same_arrays
from adafocus_jax.checkpoint.rules import (
    ENCODERS,
    Names,
    Rule,
    classifier_names,
    encoder_names,
    pretrained_heads,
    release_names,
)
from adafocus_jax.checkpoint.torch_files import unwrap_names
from adafocus_jax.errors import UserError
from adafocus_jax.models import variable_shapes

log = logging.getLogger(__name__)

LEAVES = {
    "kernel": "weight",
    "bias": "bias",
    "scale": "weight",
    "mean": "running_mean",
    "var": "running_var",
}
"""Flax's name of a layer's array to PyTorch's."""
COUNTER = "num_batches_tracked"
IMAGENET_CLASSES = 1000
HEADS = ("aux_fc", "aux_head.0", "new_fc", "head.projection", "fc", "classifier", "classifier.1")
"""PyTorch's names of classification layers, one for each kind of model."""
VARIANTS = {"classifier.global_mlp.": "uni_adafocus", ".base_model.": "uni_adafocus_tsm"}
VARIANTS |= {".pathway0_": "uni_adafocus_x3d"}
"""Substring of names that occurs only in one variant's checkpoints."""


def convert_state_dict(
    state_dict: Mapping[str, Any], model: nn.Module, part: str | None = None
) -> dict[str, Any]:
    """Variables of ``model`` from a PyTorch state dict.

    A whole model takes the names of the authors' release, an encoder those of torchvision, timm, TSM or SlowFast,
    whichever fit best; all may have those of wrappers before them. Ignored entries (batch-norm counters, ImageNet
    classifiers) are logged.

    Args:
      state_dict: name to array, or whatever ``np.asarray`` takes.
      model: of ``create_model``, or a plain encoder.
      part: ``global_encoder`` or ``local_encoder`` (``encoder`` of a plain classifier): the state dict is of that
        encoder of ``model``. A classifier in it is ignored, but for that of X3D: all heads of the encoder start as
        it, array by array where the shape fits, as in the authors' release. The log says what was taken.

    Returns:
      ``{"params", "batch_stats"}`` of float32 NumPy arrays in the structure of ``init_variables(model)``; with
      ``part`` of that part, and what was taken for its heads, alone.

    Raises:
      UserError: a name is missing or left over, or a shape differs; the first of each are listed.
    """
    tensors = unwrap_names(state_dict)
    everything = shapes = _shapes(model)
    if part is not None:
        _require_part(model, part)
        shapes = {path: shape for path, shape in everything.items() if path.split("/")[1] == part}
    fits = [_Fit(tensors, shapes, names) for names in _dialects(model, part, shapes)]
    best = min(fits, key=lambda fit: len(fit.missing) + len(fit.left_over))
    best.require(model)
    heads = _head_places(tensors, everything, model, part) if part else {}
    taken = {name for place in heads.values() for name in place.names}
    if ignored := [name for name in best.ignored if name not in taken]:
        log.info("ignored, as this model has no use for them: %s", _first_few(ignored))
    arrays = {path: place.read(tensors) for path, place in {**best.places, **heads}.items()}
    return {"batch_stats": {}, **unflatten_dict(arrays, sep="/")}  # a model without norms has none


def to_state_dict(variables: Mapping[str, Any], model: nn.Module) -> dict[str, np.ndarray]:
    """The inverse of ``convert_state_dict``: every tensor of the authors' state dict, by its name.

    What this package does not keep is filled in, so that PyTorch loads it strictly: batch-norm counters and ImageNet
    classifiers are zero. A plain encoder gets the names of the code base that the authors took it from.

    Raises:
      UserError: ``variables`` are not those of ``model``.
    """
    require_same_arrays(variables, _variables(model), "the variables")
    arrays = {path: np.asarray(array) for path, array in flatten_dict(dict(variables), sep="/").items()}
    shapes = {path: array.shape for path, array in arrays.items()}
    names = _dialects(model, None, shapes)[0]
    tensors: dict[str, np.ndarray] = {}
    for path, place in _places(shapes, names).items():
        tensors |= place.write(arrays[path])
        if path.endswith("/mean"):
            tensors[f"{place.names[0].rpartition('.')[0]}.{COUNTER}"] = np.zeros((), np.int64)
    for rule in names.head:
        width = shapes.get(f"params/{rule.path}/kernel", ())[:1]
        if width:
            tensors[f"{rule.name}.weight"] = np.zeros((IMAGENET_CLASSES, *width), np.float32)
            tensors[f"{rule.name}.bias"] = np.zeros(IMAGENET_CLASSES, np.float32)
    return tensors


def count_classes(state_dict: Mapping[str, Any]) -> int | None:
    """The number of classes of a PyTorch state dict; None if it has no classifier.

    >>> count_classes({"module.conv1.weight": np.zeros((8, 3, 3, 3)), "module.fc.bias": np.zeros(10)})
    10
    """
    biases = unwrap_names(state_dict)
    return next((len(biases[f"{head}.bias"]) for head in HEADS if f"{head}.bias" in biases), None)


def rearrange(array: np.ndarray, axes: str, wanted: str) -> np.ndarray:
    """Permutes axes, and drops or inserts axes of length one, which are written 1.

    >>> rearrange(np.zeros((64, 24, 3, 1)), "OID1", "D11IO").shape
    (3, 1, 1, 24, 64)
    """
    letters = axes.replace("1", "")
    array = array.reshape([size for size, axis in zip(array.shape, axes, strict=True) if axis != "1"])
    array = array.transpose([letters.index(axis) for axis in wanted if axis != "1"])
    return np.expand_dims(array, [place for place, axis in enumerate(wanted) if axis == "1"])


class _Place(NamedTuple):
    """Where an array of this package is stored in a state dict: as one tensor, or as one per exit."""

    names: tuple[str, ...]
    axes: str
    """Axes of each tensor there."""
    ours: str
    shape: tuple[int, ...]
    """Ours."""

    @property
    def tensor_shape(self) -> tuple[int, ...]:
        sizes = dict(zip(self.ours, self.shape, strict=True))
        return tuple(1 if axis == "1" else sizes[axis] for axis in self.axes)

    def read(self, tensors: Mapping[str, Any]) -> np.ndarray:
        arrays = [
            rearrange(np.asarray(tensors[name], np.float32), self.axes, self.ours.removeprefix("E"))
            for name in self.names
        ]
        return np.stack(arrays) if self.ours[0] == "E" else np.array(arrays[0], order="C")

    def write(self, array: np.ndarray) -> dict[str, np.ndarray]:
        arrays = array if self.ours[0] == "E" else [array]
        return {
            name: np.array(rearrange(one, self.ours.removeprefix("E"), self.axes), order="C")
            for name, one in zip(self.names, arrays, strict=True)
        }


class _Fit:
    """How a state dict matches a set of names: what is missing, left over or of another shape."""

    def __init__(
        self, tensors: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]], names: Names
    ) -> None:
        self.places = _places(shapes, names)
        wanted = {name: place for place in self.places.values() for name in place.names}
        unknown = [name for name in tensors if name not in wanted]
        self.ignored = [name for name in unknown if _is_ignored(name, names.head)]
        self.left_over = [name for name in unknown if not _is_ignored(name, names.head)]
        self.missing = [name for name in wanted if name not in tensors]
        self.wanted, self.found = wanted, tensors
        self.reshaped = {
            name: (tuple(np.shape(tensors[name])), place.tensor_shape)
            for name, place in wanted.items()
            if name in tensors and tuple(np.shape(tensors[name])) != place.tensor_shape
        }

    def differences(self) -> list[str]:
        """Each other shape in words."""
        return [
            f"{name} is {list(has)}, the model wants {list(wants)}"
            for name, (has, wants) in self.reshaped.items()
        ]

    def require(self, model: nn.Module) -> None:
        """Raises UserError unless all fits."""
        complaints = [
            f"{len(names)} {what} ({_first_few(names)})"
            for names, what in ((self.missing, "missing"), (self.left_over, "left over"))
            if names
        ]
        if self.reshaped:
            complaints.append(f"{len(self.reshaped)} of another shape ({_first_few(self.differences())})")
        if complaints:
            raise UserError(
                f"the state dict does not fit {type(model).__name__}: {self._reason()}{'; '.join(complaints)}"
            )

    def _reason(self) -> str:
        """The likely cause of the differences, if they reveal it."""
        found, wanted = _variant(self.found), _variant(self.wanted)
        if found and wanted and found != wanted:
            return f"it belongs to {found}, the model is {wanted}; "
        if found and not wanted:
            return f"it belongs to a whole {found}, not to an encoder; "
        if wanted and not found and len(self.missing) == len(self.wanted):
            return f"not one name is known; of an encoder alone, say which part ({' or '.join(ENCODERS)}); "
        classes = {(has[0], wants[0]) for has, wants in self.reshaped.values() if has[1:] == wants[1:]}
        heads_alone = all(has[1:] == wants[1:] for has, wants in self.reshaped.values())
        if len(classes) == 1 and heads_alone and not (self.missing or self.left_over):
            ((has, wants),) = classes
            return f"it has {has} classes, the model {wants}; "
        return ""


def _places(shapes: Mapping[str, tuple[int, ...]], names: Names) -> dict[str, _Place]:
    return {path: _place(path, shape, names.rules) for path, shape in shapes.items()}


def _head_places(
    tensors: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]], model: nn.Module, part: str
) -> dict[str, _Place]:
    """Where the heads of ``part`` find their initial values, as far as shapes fit; logs what fits and what does not."""
    rules = pretrained_heads(getattr(model, part), part)
    own = {path: shape for path, shape in shapes.items() if any(r.name_of(_layer(path)) for r in rules)}
    fit = _Fit(tensors, own, Names(rules))
    unusable = {*fit.missing, *fit.reshaped}
    places = {path: place for path, place in fit.places.items() if unusable.isdisjoint(place.names)}
    for path, place in places.items():
        log.info("the classifier initialises a head: %s to %s", place.names[0], path)
    if fit.reshaped:
        log.info("not used of the classifier: %s", "; ".join(fit.differences()))
    return places


def _place(path: str, shape: tuple[int, ...], rules: Sequence[Rule]) -> _Place:
    layer, leaf = _layer(path), path.rpartition("/")[2]
    for rule in rules:
        name = rule.name_of(layer)
        if name is not None:
            axes, ours = rule.axes
            stacked = ours[0] == "E"
            if leaf != "kernel":
                axes, ours = "O", "EO" if stacked else "O"
            names = [re.sub("<e>", str(e), name) for e in range(shape[0])] if stacked else [name]
            return _Place(tuple(f"{name}.{LEAVES[leaf]}" for name in names), axes, ours, shape)
    raise UserError(f"no PyTorch name is known for the layer {layer} of this model")


def _layer(path: str) -> str:
    return path.split("/", 1)[1].rpartition("/")[0]


def _dialects(model: nn.Module, part: str | None, shapes: Mapping[str, tuple[int, ...]]) -> list[Names]:
    """The naming schemes that a state dict may use for the arrays at the paths of ``shapes``."""
    if part is not None:
        dialects = [names.within("", f"{part}/") for names in encoder_names(getattr(model, part))]
    elif hasattr(model, "global_encoder"):
        dialects = [release_names(model, shapes)]
    elif hasattr(model, "encoder"):
        dialects = list(classifier_names(model))
    else:
        dialects = list(encoder_names(model))
    if not dialects:
        raise UserError(f"no PyTorch names are known for {type(model).__name__}")
    return dialects


def _require_part(model: nn.Module, part: str) -> None:
    parts = [name for name in (*ENCODERS, "encoder") if hasattr(model, name)]
    if part not in parts:
        raise UserError(f"{type(model).__name__} has no part {part!r}: {_choice(parts)}")


def _choice(parts: Sequence[str]) -> str:
    return f"choose {' or '.join(parts)}" if parts else "it is converted as a whole"


def _shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {path: leaf.shape for path, leaf in flatten_dict(_variables(model), sep="/").items()}


def _variables(model: Any) -> dict[str, Any]:
    """Shapes and dtypes of the variables of a model, or of a plain encoder."""
    if hasattr(model, "num_classes"):
        return variable_shapes(model)
    frames = jax.ShapeDtypeStruct((1, 2, 64, 64, 3), jnp.float32)
    return dict(jax.eval_shape(lambda x: model.init(jax.random.key(0), x, False), frames))


def _is_ignored(name: str, head: Sequence[Rule]) -> bool:
    layer, _, leaf = name.rpartition(".")
    return leaf == COUNTER or any(layer == rule.name for rule in head)


def _variant(names: Mapping[str, Any]) -> str | None:
    models = (model for mark, model in VARIANTS.items() if any(mark in name for name in names))
    return next(models, None) if any(name.startswith("global_CNN") for name in names) else None


def _first_few(items: Sequence[str], most: int = 3) -> str:
    return ", ".join(items[:most]) + (f" and {len(items) - most} more" if len(items) > most else "")

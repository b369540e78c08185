"""Transforms of training clips, by name: what a plugin adds to ``config.data.transforms``.

A transform is a ``grain.transforms.RandomMap`` (or ``Map``) of one clip: ``frames`` ``[N, S, S, 3]`` uint8, ``glance``
``[G, S, S, 3]`` uint8 where the model samples its glance frames apart, ``label`` ``[]`` and ``labels`` ``[L]`` int32.
It may write into these arrays, which costs least, or return others of the same shape and dtype. Its ``rng`` depends on
the seed and the clip's place in training alone, so that a run with it resumes bit for bit. It must not call JAX, as it
runs in data workers::

    @register_transform("brightness")
    class Brightness(grain.transforms.RandomMap):
        def random_map(self, clip, rng):
            gain = rng.uniform(0.8, 1.2)  # one for all frames of the clip
            for name in clip.keys() & {"frames", "glance"}:
                clip[name][...] = np.clip(gain * clip[name], 0, 255)
            return clip
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, TypeVar

import grain
import numpy as np

from adafocus_jax.errors import UserError

Transform: TypeAlias = grain.transforms.Map | grain.transforms.RandomMap
Factory = TypeVar("Factory", bound=Callable[[], Any])

TRANSFORMS: dict[str, Callable[[], Transform]] = {}
"""What makes each transform, by name."""


def register_transform(name: str) -> Callable[[Factory], Factory]:
    """Adds a transform under ``name``; decorates its class, or a function without arguments that makes it.

    Raises:
      UserError: another one has the name.
    """

    def register(factory: Factory) -> Factory:
        known = TRANSFORMS.get(name)
        # A module may be run twice, as a config file and as a plugin.
        if known is not None and known.__qualname__ != factory.__qualname__:
            raise UserError(
                f"transform {name!r} is registered already, by {known.__module__}: choose another name"
            )
        TRANSFORMS[name] = factory
        return factory

    return register


def make_transforms(names: Sequence[str]) -> tuple[Transform, ...]:
    """The transforms of these names, in order.

    Raises:
      UserError: an unknown name, or what is registered under it makes no transform.
    """
    made = []
    for name in names:
        if name not in TRANSFORMS:
            close = difflib.get_close_matches(name, TRANSFORMS, 1)
            hint = (
                f"did you mean {close[0]!r}?"
                if close
                else f"choose among {', '.join(sorted(TRANSFORMS)) or 'none'}"
            )
            raise UserError(f"unknown transform {name!r}: {hint} A plugin registers more (config.plugins)")
        transform = TRANSFORMS[name]()
        if not isinstance(transform, Transform):
            raise UserError(
                f"transform {name!r} is a {type(transform).__name__}: it must be a grain.transforms.Map or RandomMap"
            )
        made.append(transform)
    return tuple(made)


def apply_transforms(
    clips: grain.MapDataset[dict[str, Any]], transforms: Sequence[Transform]
) -> grain.MapDataset[dict[str, Any]]:
    """``clips`` after each of the ``transforms``, whose results are checked.

    Raises:
      UserError: later, where a transform changes the arrays of a clip, their shapes or dtypes.
    """
    for transform in transforms:
        if isinstance(transform, grain.transforms.RandomMap):
            clips = clips.random_map(_CheckedRandomMap(transform))
        else:
            clips = clips.map(_CheckedMap(transform))
    return clips


class _CheckedMap(grain.transforms.Map):
    def __init__(self, transform: grain.transforms.Map) -> None:
        self._transform = transform

    def map(self, element: dict[str, Any]) -> dict[str, Any]:
        forms = _forms(element)
        return _checked(self._transform, self._transform.map(element), forms)


class _CheckedRandomMap(grain.transforms.RandomMap):
    def __init__(self, transform: grain.transforms.RandomMap) -> None:
        self._transform = transform

    def random_map(self, element: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        forms = _forms(element)
        return _checked(self._transform, self._transform.random_map(element, rng), forms)


def _forms(clip: dict[str, Any]) -> dict[str, str]:
    """Dtype and shape of each array of a clip."""
    arrays = {name: np.asarray(value) for name, value in clip.items() if not isinstance(value, list)}
    return {name: f"{array.dtype.name} {list(array.shape)}" for name, array in arrays.items()}


def _checked(transform: Transform, clip: Any, forms: dict[str, str]) -> dict[str, Any]:
    if not isinstance(clip, dict):
        name = type(transform).__qualname__
        raise UserError(f"the transform {name} returns {type(clip).__name__}, not a clip: return the dict")
    if (found := _forms(clip)) != forms:
        name = next(name for name in forms | found if forms.get(name) != found.get(name))
        raise UserError(
            f"the transform {type(transform).__qualname__} turns {name!r} of a clip from {forms.get(name, 'absent')} "
            f"into {found.get(name, 'absent')}: a transform must keep the arrays, their shapes and dtypes"
        )
    return clip

"""Volumes, such as magnetic resonance images, as sequences of slices."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from adafocus_jax.data.media.frames import DecodeError, Deliver, Shown, at_once
from adafocus_jax.data.media.limits import ReadLimits
from adafocus_jax.data.media.picture import same_size
from adafocus_jax.data.media.video import choose_frames, pick
from adafocus_jax.errors import UserError

_PERCENTILES = (1, 99)
_TINY = 1e-30  # divides the volume of one intensity


def iter_slices(
    path: str | Path,
    axis: int,
    window: tuple[float, float] | None,
    *,
    short_side: int | None = None,
    max_fps: float | None = None,
    segment: tuple[float, float] | None = None,
    choose: Callable[[int], Iterable[int]] | None = None,
    limits: ReadLimits | None = None,
    deliver: Deliver = at_once,
) -> Iterator[tuple[float, Any]]:
    """Yields ``(time in seconds, slice [H, W, 3] uint8, grey)`` of a NIfTI volume, one slice a second.

    grey = 255 · clip((intensity − low) / (high − low), 0, 1). The volume is turned upright first, so that ``axis`` is
    0: left to right (sagittal slices), 1: back to front (coronal), 2: bottom to top (axial), however it is stored.

    Args:
      path: a ``.nii`` or ``.nii.gz`` file.
      axis: along which the slices follow each other.
      window: the intensities (low, high); None: the percentiles 1 and 99 of the volume.
      short_side: of the slices in pixels; None keeps the size.
      max_fps: below 1, slices are left out.
      segment: start and end in slices.
      choose: from the number of slices to those to yield; None: all.
      limits: how many slices of which size there may be; None: the defaults.
      deliver: what to yield in place of pixels that are made later.

    Raises:
      DecodeError: not a NIfTI volume of three dimensions, one that is too large, or the segment reaches out of it.
      UserError: nibabel is not installed.
    """
    limits = limits or ReadLimits()
    intensities = np.moveaxis(_load(path, limits), axis, 0)
    low, high = map(float, window or np.percentile(intensities, _PERCENTILES))
    fit = same_size(short_side, limits)

    def pixels(plane: np.ndarray) -> np.ndarray:
        share = np.clip((plane.astype(np.float64) - low) / max(high - low, _TINY), 0, 1)
        grey = np.rint(255 * np.rot90(share)).astype(np.uint8)
        return fit(np.repeat(grey[..., None], 3, axis=-1))

    shown = (Shown(float(number), number + 1.0, plane) for number, plane in enumerate(intensities))
    left = choose_frames(shown, max_fps, segment)
    for time, plane in pick(left, choose) if choose else left:
        yield time, deliver(partial(pixels, plane), plane.nbytes)


def _load(path: str | Path, limits: ReadLimits) -> np.ndarray:
    nibabel = _import_nibabel()
    try:
        with np.errstate(over="ignore"):
            stored = nibabel.load(path)
            _check_shape(stored.shape, limits)
            image = nibabel.as_closest_canonical(stored)
            intensities = np.asanyarray(image.dataobj, np.float32)
    except DecodeError:
        raise
    except Exception as error:  # Damaged files raise a dozen kinds, of nibabel, gzip and NumPy.
        raise DecodeError(f"not a readable volume: {error}") from error
    if intensities.ndim == 4:
        intensities = intensities[..., 0]
    return np.nan_to_num(intensities, posinf=0, neginf=0)


def _check_shape(shape: tuple[int, ...], limits: ReadLimits) -> None:
    if len(shape[:3]) != 3 or shape[3:] not in ((), (1,)) or 0 in shape:
        raise DecodeError(f"not a volume of three dimensions, but of shape {shape}")
    _, *plane = sorted(shape[:3])  # the largest of its slices
    limits.check_size(*plane)
    limits.check_length(plane[-1], float(plane[-1]))


def _import_nibabel() -> Any:
    try:
        import nibabel
    except ImportError as error:
        raise UserError("NIfTI volumes need nibabel: pip install 'adafocus_jax[mri]'") from error
    return nibabel

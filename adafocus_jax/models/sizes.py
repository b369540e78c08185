"""Which sizes of a model with policies fit together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def size_complaints(model: Any) -> Iterator[str]:
    """What does not fit together in an ``AdaFocus``, in words, each with the sizes."""
    for name in ("num_glance", "num_focus", "glance_size", "patch_size"):
        if getattr(model, name) < 1:
            yield f"{name}={getattr(model, name)} must be at least 1"
            return
    low, high = model.side_limits
    if model.num_focus > model.num_candidates:
        yield f"num_focus={model.num_focus} exceeds num_candidates={model.num_candidates}"
    if not model.separate_glance and model.num_candidates % model.num_glance:
        yield f"num_candidates={model.num_candidates} must be a multiple of num_glance={model.num_glance}"
    for name in ("patch_size", "glance_size"):
        if getattr(model, name) > model.image_size:
            yield f"{name}={getattr(model, name)} exceeds image_size={model.image_size}"
    if not 0 < low <= high <= 1:
        yield f"side_limits={model.side_limits} must be fractions of the image, 0 < smallest <= largest <= 1"

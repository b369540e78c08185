"""Which backend runs the stages."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from adafocus_jax.engine.backend import Backend, XlaBackend
from adafocus_jax.engine.openvino import OpenVinoBackend
from adafocus_jax.engine.openvino_graph import PRECISIONS, is_installed
from adafocus_jax.errors import UserError
from adafocus_jax.flops import StageCost
from adafocus_jax.jaxpr_to_onnx import UntranslatableError
from adafocus_jax.models import VideoModel

log = logging.getLogger(__name__)

BackendFactory = Callable[[VideoModel, Any, Sequence[StageCost], Mapping[str, int], jax.Device], Backend]
"""From (model, variables, costs, capacity of each pool, device) to a backend, as ``XlaBackend``."""

BACKENDS: dict[str, BackendFactory] = {"xla": XlaBackend, "openvino": OpenVinoBackend}
"""Backends by name; add yours."""
AUTO = "auto"
"""OpenVINO on a CPU where it is installed and knows the model, else XLA."""


def make_backends(
    name: str,
    precision: str,
    devices: Sequence[jax.Device],
    model: VideoModel,
    variables: Any,
    costs: Sequence[StageCost],
    capacity: Callable[[int], Mapping[str, int]],
) -> tuple[Backend, ...]:
    """A backend for each device; OpenVINO takes all cores of the host for one.

    Args:
      name: a key of ``BACKENDS``, or ``auto``.
      precision: ``float32``, which is to say that of the model, or ``bfloat16``, which OpenVINO alone offers here.
      devices: one or more.
      model: as of ``XlaBackend``.
      variables: likewise.
      costs: likewise.
      capacity: from a number of devices to the slots of each pool on each.

    Raises:
      UserError: an unknown name or precision, or a backend that cannot run here.
    """
    if name not in (AUTO, *BACKENDS):
        raise UserError(f"unknown engine backend={name!r}: choose one of {', '.join((AUTO, *BACKENDS))}")
    if precision not in PRECISIONS:
        raise UserError(f"unknown precision={precision!r}: choose one of {', '.join(PRECISIONS)}")
    auto = name == AUTO
    if auto:
        name = "openvino" if devices[0].platform == "cpu" and is_installed() else "xla"
    if name == "openvino":
        try:
            backends: tuple[Backend, ...] = (
                OpenVinoBackend(model, variables, costs, capacity(1), devices[0], precision),
            )
        except UntranslatableError as error:
            if not auto or precision != "float32":
                raise
            log.info("inference by XLA: %s", error)
        else:
            if auto:
                log.info("inference by OpenVINO in %s (--backend xla: by XLA)", precision)
            return backends
    elif precision != "float32":
        raise UserError(
            f"precision={precision!r} needs backend='openvino'; with XLA, a model has the dtype of its config"
        )
    make, slots = BACKENDS["xla" if auto else name], capacity(len(devices))
    return tuple(make(model, variables, costs, slots, device) for device in devices)

"""What training carries from step to step."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from adafocus_jax.models import VideoModel, init_variables
from adafocus_jax.types import Array


@struct.dataclass
class TrainState:
    """Everything that changes during training; equal states have equal futures, bit for bit."""

    step: Array
    """``[]`` int32: updates done."""
    params: Any
    """float32 parameters."""
    batch_stats: Any
    """float32 running means and variances of batch norm."""
    opt_state: Any
    """The optimizer's momentum and step count."""

    @property
    def variables(self) -> dict[str, Any]:
        """``{"params", "batch_stats"}``: what the model is applied with."""
        return {"params": self.params, "batch_stats": self.batch_stats}


def run_keys(seed: int) -> tuple[Array, Array]:
    """The two random keys of a run: one for initialisation, one that every step's draws come from."""
    init, draws = jax.random.split(jax.random.key(seed))
    return init, draws


def create_state(model: VideoModel, transform: optax.GradientTransformation, seed: int) -> TrainState:
    """A fresh state at step 0. ``jax.eval_shape`` of it allocates nothing."""
    variables = init_variables(model, run_keys(seed)[0])
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=variables["params"],
        batch_stats=variables["batch_stats"],
        opt_state=transform.init(variables["params"]),
    )

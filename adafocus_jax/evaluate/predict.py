"""A model over a stream of batches: compiled once, spread over the local devices, gathered on the host."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from adafocus_jax.errors import UserError
from adafocus_jax.models import sample_draws
from adafocus_jax.types import ModelOutput, VideoBatch


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a model said of each of ``n`` videos, in the order of their records. NumPy arrays."""

    index: np.ndarray
    """``[n]`` int32: position of the record in its split."""
    labels: np.ndarray
    """``[n, L]`` int32, −1 pads."""
    exit_logits: np.ndarray
    """``[n, E, K]`` float32, cheapest exit first."""
    frame_weights: np.ndarray
    """``[n, G]`` float32."""
    glance_indices: np.ndarray
    """``[n, G]`` int32: candidates glanced at; those at the same time where the glance is sampled separately."""
    frame_indices: np.ndarray
    """``[n, F]`` int32: candidates chosen."""
    boxes: np.ndarray
    """``[n, F, 4]`` float32, pixels: top, left, height, width."""

    @property
    def logits(self) -> np.ndarray:
        """``[n, K]``: of the last exit."""
        return self.exit_logits[:, -1]


def average_crops(crops: Sequence[Predictions]) -> Predictions:
    """The predictions with logits averaged over several crops of the same videos (paper, implementation details).

    Frames and boxes are those of the first crop.
    """
    logits = np.stack([crop.exit_logits for crop in crops]).mean(axis=0)
    return replace(crops[0], exit_logits=logits)


def round_up_to_devices(batch_size: int) -> int:
    """The least multiple of the number of local devices that holds ``batch_size`` videos."""
    devices = jax.local_device_count()
    return -(-batch_size // devices) * devices


PredictFunction = Callable[[VideoBatch, int], ModelOutput]
"""From a batch on the host and its number to the model's output, sharded over the local devices."""


@functools.lru_cache(maxsize=16)
def predict_step(model: nn.Module) -> Any:
    """The jitted function of (variables, batch, key, number of the batch, place of its first video in the batch of all
    processes) that evaluation runs.

    The same for the same model, so that evaluations in training compile once.
    """

    def apply(
        variables: Any, batch: VideoBatch, key: jax.Array, number: jax.Array, first: jax.Array
    ) -> ModelOutput:
        draws = sample_draws(jax.random.fold_in(key, number), model, batch.frames.shape[0], first)
        return cast(ModelOutput, model.apply(variables, batch, draws=draws))

    return jax.jit(apply)


def make_predict_function(model: nn.Module, variables: Any, *, seed: int = 0) -> PredictFunction:
    """Compiles evaluation of ``model``; the batch is split over the local devices, the parameters live on each.

    Evaluation norm statistics do not depend on the batch, so the split changes no result. ``seed`` feeds the
    random controls alone, whose draws do not depend on the number of processes.
    """
    mesh = Mesh(np.array(jax.local_devices()), ("batch",))
    everywhere, split = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec("batch"))
    variables = jax.device_put(jax.tree.map(np.asarray, variables), everywhere)
    key = jax.device_put(jax.random.key(seed), everywhere)
    apply = predict_step(model)

    def predict(batch: VideoBatch, number: int) -> ModelOutput:
        devices = mesh.size
        if batch.frames.shape[0] % devices:
            raise UserError(
                f"evaluation batch of {batch.frames.shape[0]} videos does not divide over {devices} devices: "
                f"take a multiple of {devices}"
            )
        seen = VideoBatch(frames=batch.frames, glance=batch.glance)
        first = jax.process_index() * batch.frames.shape[0]
        return apply(variables, jax.device_put(seen, split), key, jnp.uint32(number), jnp.uint32(first))

    return predict


def predict_split(
    predict: PredictFunction, batches: Iterable[VideoBatch], progress: Callable[[int], None] | None = None
) -> Predictions:
    """Runs ``predict`` over all batches and keeps the real videos (``mask``).

    Args:
      predict: of ``make_predict_function``.
      batches: NumPy batches with ``labels``, ``mask`` and ``index``.
      progress: called after each batch with the number of its videos.

    Raises:
      UserError: there are no videos, or a logit is not finite.
    """
    parts: list[dict[str, np.ndarray]] = []
    waiting: tuple[VideoBatch, ModelOutput] | None = None
    # One batch is under way on the device while the next is decoded and the last is fetched.
    for number, batch in enumerate(batches):
        following = (batch, predict(batch, number))
        if waiting:
            parts.append(_fetch(*waiting))
        waiting = following
        if progress:
            progress(int(np.asarray(batch.mask).sum()))
    if waiting is None:
        raise UserError("nothing to evaluate: the split holds no videos")
    parts.append(_fetch(*waiting))
    joined = Predictions(**{key: np.concatenate([part[key] for part in parts]) for key in parts[0]})
    if not np.isfinite(joined.exit_logits).all():
        bad = int(joined.index[~np.isfinite(joined.exit_logits).all(axis=(1, 2))][0])
        raise UserError(
            f"the model's logits for record {bad} are not finite: the checkpoint is damaged or diverged"
        )
    return joined


def _fetch(batch: VideoBatch, output: ModelOutput) -> dict[str, np.ndarray]:
    names = [field.name for field in fields(Predictions)]
    real = np.asarray(batch.mask)
    given = {"index": batch.index, "labels": batch.labels}
    if (
        output.glance_indices is None
    ):  # the glance was sampled separately: name the candidates at its place in time
        num_glance, num_candidates = output.frame_weights.shape[1], batch.frames.shape[1]
        nearest = (2 * np.arange(num_glance) + 1) * num_candidates // (2 * num_glance)
        given["glance_indices"] = np.broadcast_to(nearest.astype(np.int32), (len(real), num_glance))
    return {name: np.asarray(given.get(name, getattr(output, name, None)))[real] for name in names}

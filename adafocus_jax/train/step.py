"""The training step: one function per device, made parallel by ``pmap`` or by ``jit(shard_map)``.

Every device takes its share of the batch. Gradients, logged scalars and the running statistics of batch norm
are averaged over devices, so the state is equal on all of them and a checkpoint does not depend on which one
wrote it. Batch norm itself normalises by the videos of its own device, as the authors train, unless the model was
made with ``norm_axis=AXIS``; then the update does not depend on the number of devices.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, Literal, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from adafocus_jax.errors import UserError
from adafocus_jax.losses import Losses
from adafocus_jax.models import VideoModel, sample_draws
from adafocus_jax.train.optimizer import Optimizer
from adafocus_jax.train.state import TrainState, run_keys
from adafocus_jax.types import Array, ModelOutput, VideoBatch

AXIS = "batch"
"""The mapped axis: devices."""
Parallel = Literal["pmap", "shard_map"]
LossFunction = Callable[[ModelOutput, Array], Losses]
DeviceStep = Callable[[TrainState, VideoBatch], tuple[TrainState, dict[str, Array]]]


@dataclass(frozen=True)
class TrainStep:
    """A training step over all devices, and how values get onto them and back."""

    run: DeviceStep
    """From the state, which is donated, and a batch, both on the devices, to the next state and scalars."""
    put_state: Callable[[TrainState], TrainState]
    """A state on the host to one copy on every device."""
    get_state: Callable[[TrainState], TrainState]
    """The state back on the host, as NumPy arrays that are shaped alike for both kinds of ``parallel``."""
    put_batch: Callable[[Mapping[str, np.ndarray]], VideoBatch]
    """What a step needs of a batch on the host, split over the devices; uint8 stays uint8."""
    lower: Callable[[TrainState, VideoBatch], jax.stages.Lowered]
    """From shapes of a state and of a global batch to the program, not yet compiled: raises what the step would,
    without data or memory."""


def make_train_step(
    model: VideoModel,
    optimizer: Optimizer,
    loss: LossFunction,
    *,
    seed: int,
    parallel: Parallel = "pmap",
    devices: Sequence[jax.Device] | None = None,
) -> TrainStep:
    """One update of ``model`` on a global batch, split over the devices.

    What is random in step s is a function of (seed, s, place in the global batch) alone.

    Args:
      model: of ``create_model``.
      optimizer: of ``make_optimizer``.
      loss: from a training pass and labels ``[B]`` to the named terms.
      seed: of the run.
      parallel: ``pmap`` or ``shard_map``; both give the same update.
      devices: to run on; None: all.

    Raises:
      UserError: an unknown kind of ``parallel``.
    """
    device_step = _make_device_step(model, optimizer, loss, run_keys(seed)[1])
    if parallel == "pmap":
        return _pmap(device_step, devices or jax.local_devices())
    if parallel == "shard_map":
        return _shard_map(device_step, devices or jax.devices())
    raise UserError(f"unknown parallel={parallel!r}: choose pmap or shard_map")


def check_batch_size(batch_size: int, devices: int) -> None:
    """Raises UserError unless ``devices`` divide the global batch."""
    if batch_size < 1 or batch_size % devices:
        below = max(batch_size, 0) // devices * devices
        sizes = " or ".join(str(size) for size in (below, below + devices) if size > 0)
        raise UserError(f"a batch of {batch_size} does not divide over {devices} devices: take {sizes}")


def fetch_scalars(scalars: Mapping[str, Array]) -> dict[str, float]:
    """The scalars of a step as numbers; waits for the step to end."""
    return {name: float(_first_copy(value).reshape(())) for name, value in scalars.items()}


def policy_statistics(out: ModelOutput) -> dict[str, Array]:
    """Means that show a policy's collapse, float32 scalars.

    ``weight_entropy``: of the frame weights, over log G: 1 is uniform, 0 one frame. ``box_height_px``,
    ``box_width_px``. ``saturated_frac``: share of actions below 0.01 or above 0.99.
    """
    weights = jnp.asarray(out.frame_weights)
    entropy = -jnp.sum(jax.scipy.special.xlogy(weights, weights), axis=-1) / np.log(weights.shape[-1])
    actions = jnp.asarray(out.actions)
    saturated = (actions < 0.01) | (actions > 0.99)
    return {
        "weight_entropy": entropy.mean(),
        "box_height_px": out.boxes[..., 2].mean(),
        "box_width_px": out.boxes[..., 3].mean(),
        "saturated_frac": saturated.mean(dtype=jnp.float32),
    }


def _make_device_step(model: VideoModel, optimizer: Optimizer, loss: LossFunction, key: Array) -> DeviceStep:
    # A constant of the program; a key on one device would have to be moved to the others at each step.
    key_data: Any = np.asarray(jax.random.key_data(key))

    def device_step(state: TrainState, batch: VideoBatch) -> tuple[TrainState, dict[str, Array]]:
        size = batch.frames.shape[0]
        step_key = jax.random.fold_in(jax.random.wrap_key_data(key_data), state.step)
        draws = sample_draws(step_key, model, size, first=lax.axis_index(AXIS) * size)

        def objective(params: Any) -> tuple[Array, Any]:
            variables = {"params": params, "batch_stats": state.batch_stats}
            applied = model.apply(variables, batch, train=True, draws=draws, mutable=["batch_stats"])
            out, updated = cast(tuple[ModelOutput, Any], applied)
            losses = loss(out, cast(Array, batch.label))
            return losses.total, (updated["batch_stats"], _scalars(out, losses, batch))

        grads, (batch_stats, scalars) = jax.grad(objective, has_aux=True)(state.params)
        grads, batch_stats, scalars = lax.pmean((grads, batch_stats, scalars), AXIS)
        updates, opt_state = optimizer.transform.update(grads, state.opt_state, state.params)
        scalars["grad_norm"] = optax.tree.norm(grads)
        scalars["learning_rate"] = optimizer.learning_rate(state.step)
        params = optax.apply_updates(state.params, updates)
        return TrainState(state.step + 1, params, batch_stats, opt_state), scalars

    return device_step


def _scalars(out: ModelOutput, losses: Losses, batch: VideoBatch) -> dict[str, Array]:
    """What is logged: ``loss/<term>``, ``top1`` in %, ``policy/<statistic>``."""
    right = jnp.equal(jnp.argmax(out.logits, axis=-1), cast(Array, batch.label))
    terms = {f"loss/{field.name}": getattr(losses, field.name) for field in fields(losses)}
    policy = {f"policy/{name}": value for name, value in policy_statistics(out).items()}
    return {**terms, "top1": 100 * right.mean(dtype=jnp.float32), **policy}


def _pmap(device_step: DeviceStep, devices: Sequence[jax.Device]) -> TrainStep:
    split = NamedSharding(Mesh(np.array(devices), (AXIS,)), PartitionSpec(AXIS))

    def replicate(x: Array) -> Array:
        return jax.device_put(np.broadcast_to(x, (len(devices), *np.shape(x))), split)

    def put_batch(batch: Mapping[str, np.ndarray]) -> VideoBatch:
        shares = jax.tree.map(lambda x: x.reshape(len(devices), -1, *x.shape[1:]), _inputs(batch))
        return cast(VideoBatch, jax.device_put(shares, split))

    def lower(state: TrainState, batch: VideoBatch) -> jax.stages.Lowered:
        def stack(x: Array, *shape: int) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct((len(devices), *shape), x.dtype)

        total = len(devices) * jax.process_count()
        states = jax.tree.map(lambda x: stack(x, *x.shape), state)
        batches = jax.tree.map(lambda x: stack(x, x.shape[0] // total, *x.shape[1:]), batch)
        return run.lower(states, batches)

    run = jax.pmap(device_step, axis_name=AXIS, devices=devices, donate_argnums=0)
    return TrainStep(
        run=run,
        put_state=lambda state: jax.tree.map(replicate, state),
        get_state=lambda state: jax.tree.map(lambda x: _first_copy(x)[0, ...], state),
        put_batch=put_batch,
        lower=lower,
    )


def _shard_map(device_step: DeviceStep, devices: Sequence[jax.Device]) -> TrainStep:
    mesh = Mesh(np.array(devices), (AXIS,))
    everywhere, split = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec(AXIS))
    # With check_vma, shard_map itself sums the gradients of replicated parameters over devices, and the
    # pmean of the step would leave them too large by their number.
    mapped = jax.shard_map(
        device_step,
        mesh=mesh,
        in_specs=(PartitionSpec(), PartitionSpec(AXIS)),
        out_specs=PartitionSpec(),
        check_vma=False,
    )

    def put_batch(batch: Mapping[str, np.ndarray]) -> VideoBatch:
        return jax.tree.map(partial(jax.make_array_from_process_local_data, split), _inputs(batch))

    run = jax.jit(mapped, donate_argnums=0)
    return TrainStep(
        run=run,
        # Copies: donating an array that device_put had shared would delete its source.
        put_state=lambda state: jax.device_put(jax.tree.map(np.array, state), everywhere),
        get_state=lambda state: jax.tree.map(_first_copy, state),
        put_batch=put_batch,
        lower=run.lower,
    )


def _inputs(batch: Mapping[str, Any]) -> VideoBatch:
    return VideoBatch(frames=batch["frames"], glance=batch.get("glance"), label=batch["label"])


def _first_copy(x: Array) -> np.ndarray:
    """What this process' first device holds, copied: a view would keep the buffer from being donated."""
    return np.array(cast(jax.Array, x).addressable_data(0))

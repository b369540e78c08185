"""The training step: one function per device, made parallel by ``pmap`` or by ``jit(shard_map)``.

Every device takes its share of the batch. Gradients, logged scalars and the running statistics of batch norm
are averaged over devices, so the state is equal on all of them and a checkpoint does not depend on which one
wrote it. Batch norm itself normalises by the videos of its own device, as the authors train, unless the model was
made with ``norm_axis=AXIS``; then the update does not depend on the number of devices.

With gradient accumulation a device goes through its share in parts, one after another, and updates once. The update is
that of the whole batch but for batch norm, which normalises by, and takes running statistics from, one part at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, cast

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from adafocus_jax.errors import UserError
from adafocus_jax.flops import count_macs
from adafocus_jax.losses import Losses
from adafocus_jax.models import VideoModel, sample_draws
from adafocus_jax.train.optimizer import Optimizer
from adafocus_jax.train.state import TrainState, run_keys
from adafocus_jax.types import Array, ModelOutput, VideoBatch

AXIS = "batch"
"""The mapped axis: devices."""
Parallel = Literal["pmap", "shard_map"]
LossFunction = Callable[[ModelOutput, Array], Losses]
"""From a training pass and labels ``[B]`` to the loss of each video, as ``uni_adafocus_loss``."""
Gradients = Callable[[TrainState, VideoBatch], Any]
"""From a state and a device's share of a batch to gradients, running statistics and scalars."""
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
    without data or memory. Once compiled, it is what ``run`` runs: JAX knows it by the shapes' shardings."""
    count_macs: Callable[[TrainState, VideoBatch], int]
    """From the same to the multiply-adds of one device: forward, backward and what is computed again."""


def make_train_step(
    model: VideoModel,
    optimizer: Optimizer,
    loss: LossFunction,
    *,
    seed: int,
    parallel: Parallel = "pmap",
    devices: Sequence[jax.Device] | None = None,
    accumulate: int = 1,
    skip_not_finite: bool = False,
) -> TrainStep:
    """One update of ``model`` on a global batch, split over the devices.

    What is random in step s is a function of (seed, s, place in the global batch) alone.

    Args:
      model: of ``create_model``.
      optimizer: of ``make_optimizer``.
      loss: from a training pass and labels ``[B]`` to the loss of each video; its mean over the batch is minimised.
      seed: of the run.
      parallel: ``pmap`` or ``shard_map``; both give the same update.
      devices: to run on; None: all.
      accumulate: parts that each device's share of the batch is cut into.
      skip_not_finite: where a scalar or what would be the next state is not finite, keep all of the state but the count
        of steps; the scalar ``skipped`` says so (1, else 0).

    Raises:
      UserError: an unknown kind of ``parallel``.
    """
    gradients = _make_gradients(model, loss, optimizer.trains, run_keys(seed)[1], accumulate)
    device_step = _make_device_step(gradients, optimizer, skip_not_finite)
    if parallel == "pmap":
        return _pmap(device_step, devices or jax.devices())
    if parallel == "shard_map":
        return _shard_map(device_step, devices or jax.devices())
    raise UserError(f"unknown parallel={parallel!r}: choose pmap or shard_map")


def check_batch_size(batch_size: int, devices: int, accumulate: int = 1) -> None:
    """Raises UserError unless ``devices`` times ``accumulate`` divide the global batch."""
    parts = devices * accumulate
    if batch_size < 1 or batch_size % parts:
        below = max(batch_size, 0) // parts * parts
        sizes = " or ".join(str(size) for size in (below, below + parts) if size > 0)
        over = f"{devices} devices" + (f" in {accumulate} parts each" if accumulate > 1 else "")
        raise UserError(f"a batch of {batch_size} does not divide over {over}: take {sizes}")


def shapes_on(sharding: NamedSharding, tree: Any) -> Any:
    """The shapes and dtypes of a pytree of arrays (or of their shapes), laid out over devices by ``sharding``."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)


def fetch_scalars(scalars: Mapping[str, Array]) -> dict[str, float]:
    """The scalars of a step as numbers; waits for the step to end."""
    return {name: float(_first_copy(value).reshape(())) for name, value in scalars.items()}


def box_steps_px(boxes: Array) -> Array:
    """How far the box's centre moves from each chosen frame to the next; 0 where there is but one.

    Args:
      boxes: ``[B, F, 4]`` float, pixels: top, left, height, width.

    Returns:
      ``[B, max(F - 1, 1)]`` in pixels.

    Example:
      >>> box_steps_px(jnp.array([[[0.0, 0, 10, 10], [3, 4, 10, 10], [2, 3, 12, 12]]])).tolist()
      [[5.0, 0.0]]
    """
    centres = boxes[..., :2] + boxes[..., 2:] / 2
    # The first box stands twice where it is alone: the mean over no steps is no number.
    following = centres[:, 1:] if centres.shape[1] > 1 else centres
    return jnp.linalg.norm(following - centres[:, : following.shape[1]], axis=-1)


def policy_statistics(out: ModelOutput) -> dict[str, Array]:
    """Means that show a policy's collapse, float32 scalars.

    ``weight_entropy``: of the frame weights, over log G: 1 is uniform, 0 one frame. ``box_height_px``,
    ``box_width_px``. ``box_step_px``: of ``box_steps_px``. ``saturated_frac``: share of actions below 0.01 or above
    0.99.
    """
    weights = jnp.asarray(out.frame_weights)
    entropy = -jnp.sum(jax.scipy.special.xlogy(weights, weights), axis=-1) / np.log(weights.shape[-1])
    actions = jnp.asarray(out.actions)
    saturated = (actions < 0.01) | (actions > 0.99)
    return {
        "weight_entropy": entropy.mean(),
        "box_height_px": out.boxes[..., 2].mean(),
        "box_width_px": out.boxes[..., 3].mean(),
        "box_step_px": box_steps_px(out.boxes).mean(),
        "saturated_frac": saturated.mean(dtype=jnp.float32),
    }


def _make_gradients(
    model: VideoModel, loss: LossFunction, trains: Any, key: Array, accumulate: int
) -> Gradients:
    # A constant of the program; a key on one device would have to be moved to the others at each step.
    key_data: Any = np.asarray(jax.random.key_data(key))

    def of_videos(state: TrainState, batch_stats: Any, batch: VideoBatch, first: Array) -> Any:
        step_key = jax.random.fold_in(jax.random.wrap_key_data(key_data), state.step)
        draws = sample_draws(step_key, model, batch.frames.shape[0], first=first)

        def objective(params: Any) -> tuple[Array, Any]:
            params = jax.tree.map(lambda p, learns: p if learns else lax.stop_gradient(p), params, trains)
            variables = {"params": params, "batch_stats": batch_stats}
            applied = model.apply(variables, batch, train=True, draws=draws, mutable=["batch_stats"])
            out, updated = cast(tuple[ModelOutput, Any], applied)
            losses = loss(out, cast(Array, batch.label))
            chex.assert_shape(losses.total, batch.label.shape)  # not yet reduced
            losses = losses.mean()
            return losses.total, (updated.get("batch_stats", {}), _scalars(out, losses, batch))

        grads, (batch_stats, scalars) = jax.grad(objective, has_aux=True)(state.params)
        return grads, batch_stats, scalars

    def of_share(state: TrainState, batch: VideoBatch) -> Any:
        share = batch.frames.shape[0]
        first = lax.axis_index(AXIS) * share
        if accumulate == 1:
            return of_videos(state, state.batch_stats, batch, first)
        size = share // accumulate
        parts = jax.tree.map(lambda x: x.reshape(accumulate, size, *x.shape[1:]), batch)

        def add(carry: Any, numbered: Any) -> Any:
            (total, batch_stats), (number, part) = carry, numbered
            grads, batch_stats, scalars = of_videos(state, batch_stats, part, first + number * size)
            return (jax.tree.map(jnp.add, total, grads), batch_stats), scalars

        start = jax.tree.map(jnp.zeros_like, state.params), state.batch_stats
        numbered = jnp.arange(accumulate, dtype=jnp.int32), parts
        (total, batch_stats), scalars = lax.scan(add, start, numbered)
        grads = jax.tree.map(lambda g: g / accumulate, total)
        return grads, batch_stats, jax.tree.map(jnp.mean, scalars)

    return of_share


def _make_device_step(gradients: Gradients, optimizer: Optimizer, skip_not_finite: bool) -> DeviceStep:
    def device_step(state: TrainState, batch: VideoBatch) -> tuple[TrainState, dict[str, Array]]:
        grads, batch_stats, scalars = lax.pmean(gradients(state, batch), AXIS)
        updates, opt_state = optimizer.transform.update(grads, state.opt_state, state.params)
        scalars["grad_norm"] = optax.tree.norm(grads)
        if optimizer.learning_rate is not None:
            scalars["learning_rate"] = optimizer.learning_rate(state.step)
        params = optax.apply_updates(state.params, updates)
        following = TrainState(state.step + 1, params, batch_stats, opt_state)
        return _keep_finite(state, following, scalars) if skip_not_finite else (following, scalars)

    return device_step


def _keep_finite(
    state: TrainState, following: TrainState, scalars: dict[str, Array]
) -> tuple[TrainState, dict[str, Array]]:
    """``following``, or ``state`` one step on where something is not finite. Devices agree, as all is averaged."""
    finite = jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves((following, scalars))]).all()
    kept: Any = jax.tree.map(lambda new, old: jnp.where(finite, new, old), following, state)
    # Schedules count steps, not updates, and so end at 0 all the same. Adam's count is that of its updates.
    opt_state = _advance_schedules(kept.opt_state, following.step)
    skipped = 1 - finite.astype(jnp.float32)
    return kept.replace(step=following.step, opt_state=opt_state), {**scalars, "skipped": skipped}


def _advance_schedules(opt_state: Any, step: Array) -> Any:
    def is_schedule(node: Any) -> bool:
        return isinstance(node, optax.ScaleByScheduleState)

    def advance(node: Any) -> Any:
        return node._replace(count=step) if is_schedule(node) else node

    return jax.tree.map(advance, opt_state, is_leaf=is_schedule)


def _scalars(out: ModelOutput, losses: Losses, batch: VideoBatch) -> dict[str, Array]:
    """What is logged: ``loss/total``, ``loss/<term>``, ``top1`` in %, ``policy/<statistic>``."""
    right = jnp.equal(jnp.argmax(out.logits, axis=-1), cast(Array, batch.label))
    terms = {f"loss/{name}": value for name, value in {"total": losses.total, **losses.terms}.items()}
    policy = {f"policy/{name}": value for name, value in policy_statistics(out).items()}
    return {**terms, "top1": 100 * right.mean(dtype=jnp.float32), **policy}


def _pmap(device_step: DeviceStep, devices: Sequence[jax.Device]) -> TrainStep:
    # A process gives and gets the values of its own devices.
    local = [device for device in devices if device.process_index == jax.process_index()]
    split = NamedSharding(Mesh(np.array(local), (AXIS,)), PartitionSpec(AXIS))

    def replicate(x: Array) -> Array:
        return jax.device_put(np.broadcast_to(x, (len(local), *np.shape(x))), split)

    def put_batch(batch: Mapping[str, np.ndarray]) -> VideoBatch:
        shares = jax.tree.map(lambda x: x.reshape(len(local), -1, *x.shape[1:]), _inputs(batch))
        return cast(VideoBatch, jax.device_put(shares, split))

    def stacked(state: TrainState, batch: VideoBatch, copies: int) -> Any:
        def stack(x: Array, *shape: int) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct((copies, *shape), x.dtype)

        states = jax.tree.map(lambda x: stack(x, *x.shape), state)
        return states, jax.tree.map(lambda x: stack(x, x.shape[0] // len(devices), *x.shape[1:]), batch)

    def lower(state: TrainState, batch: VideoBatch) -> jax.stages.Lowered:
        split_over_all = NamedSharding(Mesh(np.array(devices), (AXIS,)), PartitionSpec(AXIS))
        shapes = shapes_on(split_over_all, stacked(state, batch, len(devices)))
        # Types: where processes are several, pmap takes whatever else it is given for values of this one.
        return cast(jax.stages.Lowered, run.lower(*jax.tree.map(jax.typeof, shapes)))

    run = jax.pmap(device_step, axis_name=AXIS, devices=devices, donate_argnums=0)
    return TrainStep(
        run=run,
        put_state=lambda state: jax.tree.map(replicate, state),
        get_state=lambda state: jax.tree.map(lambda x: _first_copy(x)[0, ...], state),
        put_batch=put_batch,
        lower=lower,
        count_macs=lambda state, batch: count_macs(run, *stacked(state, batch, len(local))),
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
        lower=lambda state, batch: run.lower(shapes_on(everywhere, state), shapes_on(split, batch)),
        count_macs=lambda state, batch: count_macs(run, state, batch),
    )


def _inputs(batch: Mapping[str, Any]) -> VideoBatch:
    return VideoBatch(frames=batch["frames"], glance=batch.get("glance"), label=batch["label"])


def _first_copy(x: Array) -> np.ndarray:
    """What this process' first device holds, copied: a view would keep the buffer from being donated."""
    return np.array(cast(jax.Array, x).addressable_data(0))

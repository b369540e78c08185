"""SGD as the authors train with: groups of parameters by regex, weight decay in the gradient, cosine per step."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax

from adafocus_jax.errors import UserError
from adafocus_jax.types import Array

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ParamGroup:
    """Parameters that share a learning rate: those whose "/"-joined path ``pattern`` matches in full."""

    pattern: str
    """Regular expression for ``re.fullmatch``, e.g. ``spatial_policy/.*``."""
    factor: float = 1.0
    """Multiplies the learning rate."""
    delay_frac: float = 0.0
    """Share of all steps, 0…1, at the start for which the rate is 0, so that a policy waits for the encoders."""


@dataclass(frozen=True)
class OptimizerOptions:
    """Stochastic gradient descent with momentum (paper, implementation details)."""

    learning_rate: float
    """Peak rate for a batch of ``reference_batch_size``."""
    reference_batch_size: int
    groups: tuple[ParamGroup, ...]
    """In order: a parameter belongs to the first group that matches it."""
    momentum: float = 0.9
    weight_decay: float = 0.0
    """Added to the gradient before momentum, on every parameter, norms and biases too."""
    clip_norm: float | None = None
    """Largest norm of the whole gradient; larger ones are scaled down to it. None: no limit."""
    warmup_frac: float = 0.0
    """Share of all steps, 0…1, over which the rate rises linearly to its peak."""
    freeze: str = ""
    """Regular expression: parameters whose whole path it matches are never updated, nor decayed. Their batch norm goes
    on normalising by the batch, and so its running statistics go on following the data."""


@dataclass(frozen=True)
class Optimizer:
    """An optax transformation and what is behind it."""

    transform: optax.GradientTransformation
    learning_rate: Callable[[Array], Array]
    """From a step to the rate at factor 1."""
    trains: Any
    """In a tree like the parameters: False where one is frozen."""


def make_optimizer(options: OptimizerOptions, params: Any, *, num_steps: int, batch_size: int) -> Optimizer:
    """The optimizer of a run of ``num_steps`` on batches of ``batch_size`` videos, all devices together.

    The order is PyTorch's: clip, add ``weight_decay · parameter``, ``buffer = momentum · buffer + gradient``,
    ``parameter −= rate · factor · buffer``. The rate is rescaled linearly from the reference batch size.

    Args:
      options: what to do.
      params: parameters or their shapes; only their paths are read.
      num_steps: all steps of the run.
      batch_size: global batch size.

    Raises:
      UserError: a parameter without a group, a group without a parameter, or ``freeze`` matches none or all.
    """
    group_of = assign_groups(params, options.groups)
    trains = trainable(params, options.freeze)
    peak = rescaled_rate(options, batch_size)

    def learning_rate(step: Array) -> Array:
        return peak * cosine_with_warmup(step, num_steps, options.warmup_frac)

    clip = optax.identity() if options.clip_norm is None else optax.clip_by_global_norm(options.clip_norm)
    transform = optax.chain(
        clip,
        optax.add_decayed_weights(options.weight_decay),
        optax.trace(options.momentum),
        _scale_by_group(options.groups, group_of, trains, learning_rate, num_steps),
    )
    return Optimizer(transform, learning_rate, trains)


def rescaled_rate(options: OptimizerOptions, batch_size: int) -> float:
    """``learning_rate · batch_size / reference_batch_size``; a log line says so where they differ."""
    rate = options.learning_rate * batch_size / options.reference_batch_size
    if batch_size != options.reference_batch_size:
        log.info(
            "learning rate %g belongs to a batch of %d: rescaled linearly to %g for a batch of %d",
            *(options.learning_rate, options.reference_batch_size, rate, batch_size),
        )
    return rate


def cosine_with_warmup(step: Array, num_steps: int, warmup_frac: float = 0.0) -> Array:
    """Factor of the rate at ``step`` (0…num_steps), float32 in 0…1.

    With w = round(warmup_frac · num_steps): ``(step + 1) / w`` while step < w, then
    ``½ (1 + cos(π (step − w) / (num_steps − w)))``, 0 at the end.

    >>> [round(float(cosine_with_warmup(jnp.int32(s), 8, 0.25)), 2) for s in (0, 1, 2, 5, 8)]
    [0.5, 1.0, 1.0, 0.5, 0.0]
    """
    warmup = round(warmup_frac * num_steps)
    step = jnp.asarray(step, jnp.float32)
    progress = jnp.clip((step - warmup) / max(num_steps - warmup, 1), 0, 1)
    cosine = 0.5 * (1 + jnp.cos(jnp.pi * progress))
    return jnp.where(step < warmup, (step + 1) / max(warmup, 1), cosine)


def assign_groups(params: Any, groups: Sequence[ParamGroup]) -> Any:
    """For every parameter the index of the first group that matches its path, in a tree like ``params``.

    >>> params = {"head": {"kernel": 0, "bias": 0}, "stem": {"kernel": 0}}
    >>> assign_groups(params, [ParamGroup("head/.*", 20.0), ParamGroup(".*")])
    {'head': {'bias': 0, 'kernel': 0}, 'stem': {'kernel': 1}}

    Raises:
      UserError: a parameter that no group matches, or a group that gets no parameter.
    """
    patterns = [_compile(group.pattern) for group in groups]

    def first_match(path: Sequence[Any], _: Any) -> int:
        name = _name(path)
        matches = (index for index, pattern in enumerate(patterns) if pattern.fullmatch(name))
        index = next(matches, None)
        if index is None:
            known = ", ".join(group.pattern for group in groups)
            raise UserError(f"no optimizer group matches parameter {name}: extend one of {known}")
        return index

    assigned = jax.tree_util.tree_map_with_path(first_match, params)
    for idle in sorted(set(range(len(groups))) - set(jax.tree.leaves(assigned))):
        raise UserError(
            f"optimizer group {groups[idle].pattern!r} gets no parameter: its regex must match a whole path "
            f"that no group before it takes; paths begin with {', '.join(sorted(params))}"
        )
    return assigned


def trainable(params: Any, freeze: str) -> Any:
    """False for every parameter whose path ``freeze`` matches in full, in a tree like ``params``.

    >>> trainable({"head": {"kernel": 0}, "stem": {"kernel": 0}}, "stem/.*")
    {'head': {'kernel': True}, 'stem': {'kernel': False}}

    Raises:
      UserError: it matches no parameter, or all.
    """
    pattern = _compile(freeze)
    trains = jax.tree_util.tree_map_with_path(lambda path, _: not pattern.fullmatch(_name(path)), params)
    some = set(jax.tree.leaves(trains))
    if some == {False} or (freeze and some == {True}):
        raise UserError(
            f"optimizer.freeze={freeze!r} matches {'no' if True in some else 'every'} parameter: give a regex that "
            f"matches whole paths of some; they begin with {', '.join(sorted(params))}"
        )
    return trains


def _name(path: Sequence[Any]) -> str:
    return jax.tree_util.keystr(tuple(path), simple=True, separator="/")


def _compile(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise UserError(f"optimizer pattern {pattern!r} is not a regular expression: {error}") from error


def _scale_by_group(
    groups: Sequence[ParamGroup],
    group_of: Any,
    trains: Any,
    learning_rate: Callable[[Array], Array],
    num_steps: int,
) -> optax.GradientTransformation:
    """Multiplies updates by ``−rate(step) · factor``; by 0 while the group is delayed, or what is frozen."""

    def init(_: Any) -> optax.ScaleByScheduleState:
        return optax.ScaleByScheduleState(count=jnp.zeros((), jnp.int32))

    def update(updates: Any, state: Any, _: Any = None) -> tuple[Any, optax.ScaleByScheduleState]:
        rate = learning_rate(state.count)
        steps = [
            jnp.where(state.count < round(group.delay_frac * num_steps), 0, -rate * group.factor)
            for group in groups
        ]

        def scale(value: Array, index: int, trains: bool) -> Array:
            return steps[index] * value if trains else jnp.zeros_like(value)

        scaled = jax.tree.map(scale, updates, group_of, trains)
        return scaled, optax.ScaleByScheduleState(count=state.count + 1)

    return optax.GradientTransformation(init, update)

"""SGD as the authors train with, or another optimizer of optax: groups of parameters by regex, cosine per step."""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import optax

from adafocus_jax.errors import UserError
from adafocus_jax.types import Array

log = logging.getLogger(__name__)


OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "sgd": optax.sgd,
    "adagrad": optax.adagrad,
    "adam": optax.adam,
    "adamw": optax.adamw,
    "adan": optax.adan,
    "lamb": optax.lamb,
    "lars": optax.lars,
    "lion": optax.lion,
    "nadamw": optax.nadamw,
    "novograd": optax.novograd,
    "radam": optax.radam,
    "rmsprop": optax.rmsprop,
}
"""Name to what makes the transformation from a learning rate. ``register_optimizer`` adds one."""


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
    """How parameters are updated; by default, SGD with momentum (paper, implementation details)."""

    learning_rate: float
    """Peak rate for a batch of ``reference_batch_size``."""
    reference_batch_size: int
    groups: tuple[ParamGroup, ...]
    """In order: a parameter belongs to the first group that matches it."""
    name: str = "sgd"
    """A key of ``OPTIMIZERS``."""
    momentum: float = 0.9
    """Of sgd, and of every optimizer with an argument of this name."""
    weight_decay: float = 0.0
    """On every parameter, norms and biases too: as the optimizer has it where it has an argument of this name (adamw,
    lamb, lion: decoupled from the gradient); else, as in sgd, added to the gradient before all else."""
    arguments: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Further arguments of the optimizer, such as ``{"b2": 0.98}`` of adamw."""
    clip_norm: float | None = None
    """Largest norm of the whole gradient; larger ones are scaled down to it. None: no limit."""
    warmup_frac: float = 0.0
    """Share of all steps, 0…1, over which the rate rises linearly to its peak."""
    decay_steps: int = 0
    """Length of the schedule in steps, to which the fractions here refer, so that a run may be made longer when it is
    resumed; 0: that of the run."""
    freeze: str = ""
    """Regular expression: parameters whose whole path it matches are never updated, nor decayed. Their batch norm still
    normalises by the batch, so its running statistics keep following the data."""


@dataclass(frozen=True)
class Optimizer:
    """An optax transformation and what is behind it."""

    transform: optax.GradientTransformation
    learning_rate: Callable[[Array], Array] | None
    """From a step to the rate at factor 1; None: not known."""
    trains: Any
    """In a tree like the parameters: False where one is frozen."""


def make_optimizer(options: OptimizerOptions, params: Any, *, num_steps: int, batch_size: int) -> Optimizer:
    """The optimizer of a run of ``num_steps`` on batches of ``batch_size`` videos, all devices together.

    Of sgd the order is PyTorch's: clip, add ``weight_decay · parameter``, ``buffer = momentum · buffer + gradient``,
    ``parameter −= rate · factor · buffer``. Another optimizer takes the clipped gradient, and ``rate · factor`` scales
    what it does at a rate of 1. The rate is rescaled linearly from the reference batch size.

    Args:
      options: what to do.
      params: parameters or their shapes; only their paths are read.
      num_steps: all steps of the run.
      batch_size: global batch size.

    Raises:
      UserError: a parameter without a group, a group without a parameter, ``freeze`` matches none or all, or an unknown
        optimizer or argument of one.
    """
    num_steps = options.decay_steps or num_steps
    group_of = assign_groups(params, options.groups)
    trains = trainable(params, options.freeze)
    peak = rescaled_rate(options, batch_size)

    def learning_rate(step: Array) -> Array:
        return peak * cosine_with_warmup(step, num_steps, options.warmup_frac)

    clip = optax.identity() if options.clip_norm is None else optax.clip_by_global_norm(options.clip_norm)
    transform = optax.chain(
        clip,
        *_direction(options, trains),
        _scale_by_group(options.groups, group_of, trains, learning_rate, num_steps),
    )
    return Optimizer(transform, learning_rate, trains)


def plain_optimizer(transform: optax.GradientTransformation, params: Any) -> Optimizer:
    """Any transformation of optax as an ``Optimizer`` that updates all of ``params``; its rate is its own affair."""
    return Optimizer(_promoting(transform), learning_rate=None, trains=jax.tree.map(lambda _: True, params))


def register_optimizer(name: str, make: Callable[..., optax.GradientTransformation]) -> None:
    """Makes an optimizer available to ``OptimizerOptions`` and to ``config.optimizer.name``.

    Args:
      name: as in the configuration.
      make: like ``optax.adamw``, a function of ``learning_rate``, which is 1, and of ``weight_decay`` and ``momentum``
        if it has such arguments.

    Raises:
      UserError: another optimizer has this name.
    """
    if OPTIMIZERS.get(name, make) is not make:
        raise UserError(f"optimizer {name!r} exists already: choose another name")
    OPTIMIZERS[name] = make


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


def _direction(options: OptimizerOptions, trains: Any) -> list[optax.GradientTransformation]:
    """From a gradient to what the rate multiplies and is subtracted."""
    if options.name not in OPTIMIZERS:
        raise UserError(f"unknown optimizer {options.name!r}: choose one of {', '.join(OPTIMIZERS)}")
    make = OPTIMIZERS[options.name]
    known = [name for name in inspect.signature(make).parameters if name != "learning_rate"]
    for name in options.arguments:
        if name not in known or hasattr(options, name):
            free = ", ".join(name for name in known if not hasattr(options, name))
            raise UserError(f"optimizer {options.name} takes no argument {name!r}: choose among {free}")
    decay = [] if "weight_decay" in known else [optax.add_decayed_weights(options.weight_decay)]
    if make is optax.sgd:
        # Not optax.sgd itself, which nests what is kept otherwise than in the checkpoints of earlier versions.
        return [*decay, optax.trace(options.momentum, **options.arguments)]
    given = {name: getattr(options, name) for name in ("momentum", "weight_decay") if name in known}
    transform = _promoting(make(learning_rate=1.0, **given, **options.arguments))
    # Frozen parameters need no statistics. optax's updates are added; ours are subtracted.
    transform = optax.masked(transform, trains) if options.freeze else transform
    return [*decay, transform, optax.scale(-1.0)]


def _promoting(transform: optax.GradientTransformation) -> optax.GradientTransformation:
    """The same where a caller's ``jax_numpy_dtype_promotion`` is strict: optax mixes integers and floats."""

    def init(params: Any) -> Any:
        with jax.numpy_dtype_promotion("standard"):
            return transform.init(params)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        with jax.numpy_dtype_promotion("standard"):
            return transform.update(updates, state, params)

    return optax.GradientTransformation(init, update)


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

"""The check of a whole model."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from adafocus_jax.losses import uni_adafocus_loss
from adafocus_jax.models import VideoModel, sample_draws, variable_shapes
from adafocus_jax.testing.networks import (
    Network,
    check_evaluation,
    check_training,
    check_variables,
    noise,
)
from adafocus_jax.testing.rules import rule
from adafocus_jax.train.optimizer import ParamGroup, assign_groups
from adafocus_jax.types import ModelOutput, VideoBatch


@dataclass(frozen=True)
class _Model(Network):
    """A model, whose variables are those of ``init_variables``: controls have those of the policies too."""

    @property
    def variables(self) -> dict[str, Any]:
        with rule(self.part, "initialises from shapes alone", inputs=self.inputs):
            return noise(variable_shapes(self.make()))


def check_model(
    make: Callable[..., VideoModel],
    *,
    batch_size: int = 2,
    groups: Iterable[ParamGroup] = (),
    untrained: str = "",
) -> None:
    """Checks a model by all rules that training, evaluation and prediction rely on.

    The rules: a named result with the shapes, dtypes and ranges of ``ModelOutput``; float32 parameters; the same with
    and without jit, alone and in a batch, and each time; traced once; a training pass whose loss has finite gradients
    that reach every parameter; float32 logits and policies with bfloat16 activations; the same parameters with
    ``remat``; optimizer groups that cover every parameter.

    Args:
      make: from arguments of ``create_model`` (``dtype``, ``remat``, ``dropout``) to the model; for example
        ``partial(create_model, "uni_adafocus_tiny", num_classes=3, local_encoder="mine")``.
      batch_size: ``B`` to try it with, at least 2.
      groups: the optimizer groups that are to cover the parameters; empty: not checked.
      untrained: regular expression that matches the paths of parameters that may get no gradient, such as those of a
        policy that a control replaces.

    Raises:
      RuleBrokenError: names the rule, and the shapes.
    """
    model = make()
    network = _Model(f"model {type(model).__name__}", make, videos(model, batch_size), _arguments(model))
    check_variables(network)
    out = check_evaluation(network)
    with rule(network.part, "yields what ModelOutput says", inputs=network.inputs, output=out):
        check_output(out, model, batch_size)
    labels = jnp.arange(batch_size, dtype=jnp.int32) % model.num_classes
    check_training(
        network,
        lambda out: jnp.mean(uni_adafocus_loss(out, labels).total),
        lambda path: bool(re.fullmatch(untrained, path)),
    )
    rounded = make(dtype="bfloat16")
    with rule(
        network.part, "keeps float32 logits and policies with bfloat16 activations", inputs=network.inputs
    ):
        assert variable_shapes(rounded) == variable_shapes(model), "its parameters change"
        shapes = jax.eval_shape(
            lambda v, x: network(rounded, v, x, False)[0], network.variables, network.inputs
        )
        check_output(shapes, model, batch_size)
    with rule(network.part, "keeps its parameters with remat='.*'", inputs=network.inputs):
        assert variable_shapes(make(remat=".*")) == variable_shapes(model)
    if groups := tuple(groups):
        with rule(network.part, "has optimizer groups that cover every parameter", **network.variables):
            assign_groups(network.variables["params"], groups)


def videos(model: VideoModel, batch_size: int) -> VideoBatch:
    """Random videos ``[B, N, S, S, 3]`` uint8, in blocks of 4 pixels; with a glance apart where the model has one."""
    rng = np.random.default_rng(0)

    def frames(count: int) -> np.ndarray:
        blocks = -(-model.image_size // 4)
        coarse = rng.integers(0, 256, (batch_size, count, blocks, blocks, 3), dtype=np.uint8)
        return coarse.repeat(4, axis=2).repeat(4, axis=3)[:, :, : model.image_size, : model.image_size]

    glance = frames(model.num_glance) if model.separate_glance else None
    return VideoBatch(frames=frames(model.num_candidates), glance=glance)


def check_output(out: ModelOutput, model: VideoModel, batch_size: int) -> None:
    """Asserts shapes and dtypes of an evaluation pass, of arrays or of shapes; of arrays their ranges too."""
    candidates = model.num_candidates
    focus = getattr(model, "num_focus", candidates)  # a plain classifier looks at all
    chex.assert_shape(out.logits, (batch_size, model.num_classes))
    chex.assert_shape(out.exit_logits, (batch_size, None, model.num_classes))
    chex.assert_shape(out.frame_indices, (batch_size, focus))
    chex.assert_shape(out.boxes, (batch_size, focus, 4))
    chex.assert_rank(out.frame_weights, 2)
    float32 = (out.logits, out.exit_logits, out.frame_weights, out.actions, out.boxes)
    chex.assert_type(float32, jnp.float32)
    chex.assert_type(out.frame_indices, jnp.int32)
    if isinstance(out.logits, jax.ShapeDtypeStruct):
        return
    np.testing.assert_array_equal(out.logits, out.exit_logits[:, -1], "logits are not those of the last exit")
    np.testing.assert_allclose(out.frame_weights.sum(axis=1), 1, rtol=1e-4, err_msg="frame_weights")
    indices, (top_left, sides) = out.frame_indices, np.split(out.boxes, 2, axis=-1)
    assert np.all(np.diff(indices) > 0), f"frame_indices do not increase: {indices.tolist()}"
    assert np.all((indices >= 0) & (indices < candidates)), f"frame_indices outside 0…{candidates - 1}"
    inside = (top_left >= -1e-3) & (top_left + sides <= model.image_size + 1e-3) & (sides > 0)
    assert np.all(inside), f"boxes outside the frame of {model.image_size} px"


def _arguments(model: VideoModel) -> Callable[[VideoBatch, bool], tuple[Any, ...]]:
    def call(batch: VideoBatch, train: bool) -> tuple[Any, ...]:
        draws = sample_draws(jax.random.key(1), model, batch.frames.shape[0])
        return batch, train, draws if train or needs_draws(model) else None

    return call


def needs_draws(model: VideoModel) -> bool:
    """Whether evaluation draws too: a control with random boxes or frames."""
    return (
        getattr(model, "spatial", "") in ("random", "gaussian") or getattr(model, "temporal", "") == "random"
    )

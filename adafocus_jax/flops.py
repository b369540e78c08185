"""Cost of a traced program in multiply-adds of convolutions and matrix products, as the literature counts it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core
from jax.interpreters import partial_eval

from adafocus_jax.models import VideoModel, init_variables
from adafocus_jax.models.adafocus import AdaFocus, GlanceExits
from adafocus_jax.models.layers import FrameFeatures
from adafocus_jax.models.video_classifier import VideoClassifier
from adafocus_jax.ops.platform import lowering_for
from adafocus_jax.types import ModelOutput, VideoBatch


def count_macs(function: Callable[..., Any], *args: Any) -> int:
    """Multiply-adds of ``function(*args)``: those of its convolutions and matrix products, padded taps included.

    Bias, norm, activation, interpolation by gather and all else that multiplies no matrices are left out. The ops
    are traced in their textbook form, so that the count does not depend on the platform; what the result does not
    depend on is left out, as compilers do. Nothing is computed.

    Args:
      function: anything that ``jax.make_jaxpr`` can trace.
      *args: its arguments: pytrees of arrays, or of ``jax.ShapeDtypeStruct``.

    Returns:
      A number of multiply-adds, exact. A branch counts as its dearest alternative, a scan as often as it runs.

    Raises:
      ValueError: for a ``while`` loop that multiplies matrices, since the number of its rounds is unknown.

    Example:
      >>> x, w = jax.ShapeDtypeStruct((8, 3), "float32"), jax.ShapeDtypeStruct((3, 5), "float32")
      >>> count_macs(lambda x, w: x @ w, x, w)
      120
    """
    return _trace(function, *args)[0]


def count_params(params: Any) -> int:
    """Number of values in a pytree of arrays (or of their shapes).

    >>> count_params({"kernel": jax.ShapeDtypeStruct((3, 5), "float32")})
    15
    """
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def _trace(
    function: Callable[..., Any], *args: Any, needed: Callable[[Any], Any] = lambda result: result
) -> tuple[int, Any]:
    """Multiply-adds behind the ``needed`` part of the result, and the shapes of all of it."""
    with lowering_for("reference"):
        jaxpr, shapes = jax.make_jaxpr(function, return_shape=True)(*args)
    kept = {id(leaf) for leaf in jax.tree.leaves(needed(shapes))}
    live, _ = partial_eval.dce_jaxpr(jaxpr.jaxpr, [id(leaf) in kept for leaf in jax.tree.leaves(shapes)])
    return _count(live), shapes


def _count(jaxpr: core.Jaxpr) -> int:
    return sum(_count_equation(equation) for equation in jaxpr.eqns)


def _count_equation(equation: core.JaxprEqn) -> int:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        left = _shape(equation.invars[0])
        return math.prod(_shape(equation.outvars[0])) * math.prod(left[axis] for axis in contracted)
    if name == "conv_general_dilated":
        kernel, out_axis = _shape(equation.invars[1]), params["dimension_numbers"].rhs_spec[0]
        return math.prod(_shape(equation.outvars[0])) * math.prod(kernel) // kernel[out_axis]
    inner = [_count(jaxpr) for jaxpr in core.jaxprs_in_params(params)]
    if name == "cond":
        return max(inner)
    if name == "while" and any(inner):
        raise ValueError("cannot count the multiply-adds of a while loop: use a scan of known length")
    return sum(inner) * params["length"] if name == "scan" else sum(inner)


_PARTS = {
    "global_encoder": "global_encoder/",
    "glance_head": "global_head/",
    "glance_classifier": "global_final_head/|classifier/glance_",
    "spatial_policy": "spatial_policy/",
    "temporal_policy": "temporal_policy/",
    "local_encoder": "local_encoder/",
    "focus_classifier": "local_final_head/|classifier/focus_",
}
"""Part to how the paths of its parameters begin."""

_TRAINING_HEADS = "training_heads"
"""All other parameters: heads that the loss reads, and no prediction."""


@dataclass(frozen=True)
class ModelCost:
    """Multiply-adds of one video, part by part and exit by exit, and parameters."""

    parts: dict[str, int]
    """Multiply-adds of each part over all frames that it sees."""
    exits: tuple[int, ...]
    """Multiply-adds of a video that leaves at each of the E exits, cheapest first."""
    part_params: dict[str, int]
    """Number of parameters of each part, and of the ``training_heads`` besides."""

    @property
    def params(self) -> int:
        """Number of all parameters."""
        return sum(self.part_params.values())

    @property
    def exit_gflops(self) -> np.ndarray:
        """``[E]`` float64: ``exits`` in giga multiply-adds ("GFLOPs" in this literature)."""
        return np.asarray(self.exits) / 1e9


def model_cost(model: VideoModel) -> ModelCost:
    """Counts a model from its own traced modules.

    The parts are both encoders, both policies (0 for controls, which do not run them), the classifier's share of
    the glance and of the focus frames, and the per-frame head on the glance (0 where no exit reads it). A glance exit
    needs its share of the glance; a focus exit the whole glance, both policies and its share of the patches. What
    serves the loss alone is not part of a prediction. A plain classifier has the parts ``encoder`` and ``classifier``,
    and one exit.

    Example:
      >>> from adafocus_jax.models import create_model
      >>> cost = model_cost(create_model("uni_adafocus", num_classes=200, patch_size=128))
      >>> cost.exit_gflops[[15, 31]].round(2).tolist()    # after the glance, after all
      [4.89, 27.23]
    """
    variables = jax.eval_shape(partial(init_variables, model), jax.random.key(0))
    if isinstance(model, VideoClassifier):
        return _classifier_cost(model, variables)

    def frames(count: int, size: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((1, count, size, size, 3), model.dtype)

    def trace(method: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[int, Any]:
        return _trace(lambda v, *a: model.apply(v, *a, method=method), variables, *args, **kwargs)

    def glance_exits(m: AdaFocus, pooled: jax.Array, frame_logits: jax.Array) -> GlanceExits:
        return m.glance_exits(pooled, frame_logits, None, False)

    def glance_exits_with_head(m: AdaFocus, pooled: jax.Array) -> GlanceExits:
        return glance_exits(m, pooled, m.global_head(pooled, None, False))

    def focus_exits(m: AdaFocus, pooled: jax.Array, memory: jax.Array) -> jax.Array:
        return m.focus_exits(pooled, memory, None, False)

    parts = dict.fromkeys(_PARTS, 0)
    seen, patches = frames(model.num_glance, model.glance_size), frames(model.num_focus, model.patch_size)
    parts["global_encoder"], glance = trace(lambda m, x: m.global_encoder(x, False), seen, needed=_pooled)
    parts["local_encoder"], focus = trace(lambda m, x: m.local_encoder(x, False), patches, needed=_pooled)
    both, exits = trace(glance_exits_with_head, glance.pooled)
    frame_logits = jax.ShapeDtypeStruct((1, model.num_glance, model.num_classes), jnp.float32)
    parts["glance_classifier"], _ = trace(glance_exits, glance.pooled, frame_logits)
    parts["glance_head"] = both - parts["glance_classifier"]
    parts["focus_classifier"], focus_logits = trace(focus_exits, focus.pooled, exits.memory)
    if model.spatial == "learned":
        parts["spatial_policy"], _ = trace(lambda m, x: m.spatial_policy(x, False), glance.maps)
    if model.temporal == "learned":
        parts["temporal_policy"], _ = trace(lambda m, x: m.temporal_policy(x, False), glance.pooled)
    along_glance = parts["global_encoder"] + parts["glance_head"] + parts["glance_classifier"]
    along_focus = parts["local_encoder"] + parts["focus_classifier"]
    chosen = along_glance + parts["spatial_policy"] + parts["temporal_policy"]
    after_glance = exits.exit_logits.shape[1]
    after_focus = focus_logits.shape[1]
    costs = [along_glance * (g + 1) // after_glance for g in range(after_glance)]
    costs += [chosen + along_focus * (f + 1) // after_focus for f in range(after_focus)]
    return ModelCost(parts, tuple(costs), _params_by_part(variables["params"]))


def _params_by_part(params: Any) -> dict[str, int]:
    counts = dict.fromkeys([*_PARTS, _TRAINING_HEADS], 0)
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        part = next((part for part, start in _PARTS.items() if re.match(start, name)), _TRAINING_HEADS)
        counts[part] += math.prod(leaf.shape)
    return counts


def _classifier_cost(model: VideoClassifier, variables: Any) -> ModelCost:
    shape = (1, model.num_candidates, model.image_size, model.image_size, 3)
    video = jax.ShapeDtypeStruct(shape, model.dtype)

    def predict(variables: Any, frames: jax.Array) -> jax.Array:
        return cast(ModelOutput, model.apply(variables, VideoBatch(frames=frames))).logits

    def encode(variables: Any, frames: jax.Array) -> jax.Array:
        own = {collection: tree["encoder"] for collection, tree in variables.items() if "encoder" in tree}
        return cast(FrameFeatures, model.encoder.apply(own, frames, False)).pooled

    whole, encoder = (count_macs(function, variables, video) for function in (predict, encode))
    params = {part: count_params(variables["params"][part]) for part in ("encoder", "classifier")}
    return ModelCost({"encoder": encoder, "classifier": whole - encoder}, (whole,), params)


def _pooled(features: FrameFeatures) -> jax.Array:
    return features.pooled


def _shape(variable: Any) -> tuple[int, ...]:
    return variable.aval.shape

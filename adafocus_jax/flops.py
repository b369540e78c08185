"""Cost of a traced program in multiply-adds of convolutions and matrix products, as the literature counts it."""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.extend import core
from jax.interpreters import partial_eval

from adafocus_jax.models import VideoModel, variable_shapes
from adafocus_jax.models.stages import Stage
from adafocus_jax.ops.platform import lowering_for


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
    return _trace(function, *args)[0].total()


def count_params(params: Any) -> int:
    """Number of values in a pytree of arrays (or of their shapes).

    >>> count_params({"kernel": jax.ShapeDtypeStruct((3, 5), "float32")})
    15
    """
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def _trace(function: Callable[..., Any], *args: Any) -> tuple[Counter[str], Any, list[bool]]:
    """Multiply-adds by their scope, such as ``Model/encoder/conv1``; shapes of the result; which of the flattened
    arguments it depends on."""
    with lowering_for("reference"):
        jaxpr, shapes = jax.make_jaxpr(function, return_shape=True)(*args)
    live, used = partial_eval.dce_jaxpr(jaxpr.jaxpr, [True] * len(jaxpr.jaxpr.outvars))
    return _count(live, ""), shapes, used


def _count(jaxpr: core.Jaxpr, scope: str) -> Counter[str]:
    return sum((_count_equation(equation, scope) for equation in jaxpr.eqns), Counter())


def _count_equation(equation: core.JaxprEqn, scope: str) -> Counter[str]:
    name, params = equation.primitive.name, equation.params
    scope = f"{scope}/{equation.source_info.name_stack}"
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        left = _shape(equation.invars[0])
        return Counter(
            {scope: math.prod(_shape(equation.outvars[0])) * math.prod(left[a] for a in contracted)}
        )
    if name == "conv_general_dilated":
        kernel, out_axis = _shape(equation.invars[1]), params["dimension_numbers"].rhs_spec[0]
        return Counter(
            {scope: math.prod(_shape(equation.outvars[0])) * math.prod(kernel) // kernel[out_axis]}
        )
    inner = [_count(jaxpr, scope) for jaxpr in core.jaxprs_in_params(params)]
    if name == "cond":
        return max(inner, key=Counter.total)
    if name == "while" and any(inner):
        raise ValueError("cannot count the multiply-adds of a while loop: use a scan of known length")
    repeats = params["length"] if name == "scan" else 1
    return Counter({key: repeats * macs for key, macs in sum(inner, Counter()).items()})


_PARTS = {
    "global_encoder": "global_encoder/",
    "glance_head": "global_head/",
    "glance_classifier": "global_final_head/|classifier/glance_",
    "spatial_policy": "spatial_policy/",
    "temporal_policy": "temporal_policy/",
    "local_encoder": "local_encoder/",
    "focus_classifier": "local_final_head/|classifier/focus_",
    "encoder": "encoder/",
    "classifier": "classifier/",
}
"""Part to how the paths of its modules begin; the first that fits counts."""

_TRAINING_HEADS = "training_heads"
"""All other parameters: heads that the loss reads, and no prediction."""


@dataclass(frozen=True)
class StageCost:
    """What one row of a stage of inference costs, in multiply-adds, and what it yields."""

    stage: Stage
    parts: Mapping[str, int]
    """Multiply-adds of each part that it runs."""
    outputs: Mapping[str, jax.ShapeDtypeStruct]
    """Of one row, for the host."""
    state: Mapping[str, jax.ShapeDtypeStruct]
    """Of one row, for later stages."""
    variables_read: tuple[bool, ...]
    """For each leaf of the model's variables, whether the stage depends on it."""

    @property
    def macs(self) -> int:
        """Multiply-adds of the row."""
        return sum(self.parts.values())


@functools.lru_cache(maxsize=16)
def stage_costs(model: VideoModel, last: frozenset[str] = frozenset()) -> tuple[StageCost, ...]:
    """Traces the stages of ``model`` in their order, each for one row; of those named in ``last`` by ``run_last``."""
    variables = variable_shapes(model)
    state: dict[str, jax.ShapeDtypeStruct] = {}
    costs = []
    for stage in model.stages():
        if stage.name in last:
            stage = replace(stage, run=stage.run_last or stage.run)
        given = (
            {n: _add_row(s) for n, s in stage.inputs.items()},
            {n: _add_row(state[n]) for n in stage.reads},
        )
        counts, (outputs, kept), used = _trace(partial(model.apply, method=stage.run), variables, *given)
        parts: Counter[str] = Counter()
        for scope, macs in counts.items():
            if path := _module_path(scope):  # otherwise a resize by matrices: interpolation is not counted
                parts[_part_of(path) or path.partition("/")[0]] += macs
        outputs, kept = ({n: _drop_row(s) for n, s in shapes.items()} for shapes in (outputs, kept))
        read = tuple(used[: len(jax.tree.leaves(variables))])
        costs.append(StageCost(stage, parts, outputs, kept, read))
        state |= kept
    return tuple(costs)


def _add_row(shape: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((1, *shape.shape), shape.dtype)


def _drop_row(shape: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape.shape[1:], shape.dtype)


def _module_path(scope: str) -> str:
    """The path of a module from the scopes that Flax opens; empty for what the model itself does, outside all modules.

    >>> _module_path("/UniAdaFocus.glance/UniAdaFocus.glance_exits/classifier.pool_glance/glance_hidden")
    'classifier/glance_hidden/'
    """
    names = [name.partition(".")[0] for name in scope.split("/") if name]
    names = list(itertools.dropwhile(lambda name: name[0].isupper(), names))
    return "".join(f"{name}/" for name in names)


def _part_of(path: str) -> str | None:
    return next((part for part, start in _PARTS.items() if re.match(start, path)), None)


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
    """Counts a model from the traced stages of its inference, which are what the engine runs.

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
    part_params = _params_by_part(variable_shapes(model)["params"])
    parts = dict.fromkeys((part for part in part_params if part != _TRAINING_HEADS), 0)
    exits: list[int] = []
    for cost in stage_costs(model):
        for part, macs in cost.parts.items():
            parts[part] = parts.get(part, 0) + cost.stage.rows * macs
        if cost.stage.name == "glance":
            glance, count = cost.macs, cost.outputs["logits"].shape[0]
            exits += [glance * (number + 1) // count for number in range(count)]
        elif cost.stage.name == "choose":
            chosen = glance + cost.macs
        else:
            exits += [chosen + cost.macs * (row + 1) for row in range(cost.stage.rows)]
    return ModelCost(parts, tuple(exits), part_params)


def _params_by_part(params: Any) -> dict[str, int]:
    counts: dict[str, int] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        part = _part_of(jax.tree_util.keystr(path, simple=True, separator="/")) or _TRAINING_HEADS
        counts[part] = counts.get(part, 0) + math.prod(leaf.shape)
    return {part: counts[part] for part in (*_PARTS, _TRAINING_HEADS) if part in counts}


def _shape(variable: Any) -> tuple[int, ...]:
    return variable.aval.shape

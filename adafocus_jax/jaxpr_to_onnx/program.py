"""A function, traced into one flat list of equations, with everything computed that depends on its constants alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import jax
import numpy as np
from jax.extend import core

from adafocus_jax.errors import UserError
from adafocus_jax.ops.platform import lowering_for

TRACED_ROWS = (3, 5)
"""Lengths of the leading axis at which a function with a free one is traced."""
_FOLD_BELOW = 4096
"""Values that a folded constant may have beyond those of the largest constant it is computed from."""
_CONTROL_FLOW = ("scan", "while", "cond")


class UntranslatableError(UserError):
    """The function uses something that this translation does not know."""


@dataclass(frozen=True)
class Rows:
    """A size that depends on the free axis: ``times · rows + plus``."""

    times: int
    plus: int = 0


Size = int | Rows
Shape = tuple[Size, ...]


@dataclass(frozen=True)
class Spec:
    """Shape and dtype of a value. What the function computes in bfloat16 is computed in float32."""

    shape: Shape
    dtype: np.dtype


@dataclass(frozen=True)
class Equation:
    """One primitive; values are numbers, unique in the program."""

    primitive: core.Primitive
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    params: dict[str, Any]
    scope: str
    """Where the model computes it, such as ``global_encoder/block1/project``."""

    @property
    def name(self) -> str:
        """Of the primitive."""
        return self.primitive.name


@dataclass
class Program:
    """A traced function."""

    equations: list[Equation]
    specs: dict[int, Spec]
    inputs: list[int]
    outputs: list[int]
    constants: dict[int, np.ndarray]


def trace(
    function: Callable[..., Any], constants: Any, inputs: Mapping[str, jax.ShapeDtypeStruct], free: bool
) -> Program:
    """Traces ``function(constants, inputs)`` in its textbook form, and folds what depends on ``constants`` alone.

    Args:
      function: to a dictionary of arrays.
      constants: pytree of arrays.
      inputs: one row of each input.
      free: whether the leading axis of inputs and outputs is free; else ``inputs`` are whole shapes.

    Raises:
      UntranslatableError: the function is not the same for every length of the free axis.
    """
    if not free:
        program = _flat(function, constants, inputs)
    else:
        programs = []
        for rows in TRACED_ROWS:
            shapes = {name: jax.ShapeDtypeStruct((rows, *s.shape), s.dtype) for name, s in inputs.items()}
            programs.append(_flat(function, constants, shapes))
        program = _merged(*programs)
    return _folded(_needed(program))


def _flat(function: Callable[..., Any], constants: Any, inputs: Mapping[str, Any]) -> Program:
    with lowering_for("reference"):
        closed = jax.make_jaxpr(function)(constants, dict(inputs))
    leaves = jax.tree.leaves(constants)
    program = Program([], {}, [], [], {})
    given = [_new(program, variable.aval) for variable in closed.jaxpr.invars]
    for number, leaf in zip(given, leaves, strict=False):
        program.constants[number] = as_numpy(leaf)
    program.inputs = given[len(leaves) :]
    program.outputs = _inline(program, closed.jaxpr, closed.consts, given, "")
    return program


def _new(program: Program, aval: Any) -> int:
    number = len(program.specs)
    program.specs[number] = Spec(tuple(aval.shape), as_dtype(aval.dtype))
    return number


def _inline(program: Program, jaxpr: Any, consts: Sequence[Any], given: list[int], scope: str) -> list[int]:
    """Adds the equations of ``jaxpr`` and of all functions that it calls; returns its outputs."""
    env = dict(zip(jaxpr.invars, given, strict=True))

    def read(atom: Any) -> int:
        literal: bool = isinstance(atom, core.Literal)
        if not literal:
            return env[atom]
        number = _new(program, atom.aval)
        program.constants[number] = as_numpy(np.asarray(atom.val, atom.aval.dtype))
        return number

    for variable, value in zip(jaxpr.constvars, consts, strict=True):
        env[variable] = _new(program, variable.aval)
        program.constants[env[variable]] = as_numpy(value)
    for equation in jaxpr.eqns:
        inputs = [read(atom) for atom in equation.invars]
        path = "/".join(part for part in (scope, str(equation.source_info.name_stack)) if part)
        inner = [] if equation.primitive.name in _CONTROL_FLOW else _called(equation.params)
        if len(inner) == 1:
            body = inner[0]
            outputs = _inline(program, body.jaxpr, body.consts, inputs, path)
        else:
            outputs = [_new(program, variable.aval) for variable in equation.outvars]
            added = Equation(equation.primitive, tuple(inputs), tuple(outputs), equation.params, path)
            program.equations.append(added)
        env.update(zip(equation.outvars, outputs, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _called(params: Mapping[str, Any]) -> list[core.ClosedJaxpr]:
    found = []
    for value in params.values():
        if isinstance(value, core.ClosedJaxpr):
            found.append(value)
        elif isinstance(value, core.Jaxpr):
            found.append(core.ClosedJaxpr(value, ()))
    return found


def _merged(first: Program, second: Program) -> Program:
    """Two traces as one, with ``Rows`` where they differ."""
    if [eq.name for eq in first.equations] != [eq.name for eq in second.equations]:
        raise UntranslatableError("the leading axis cannot be free: the function differs with its length")
    equations = []
    for one, other in zip(first.equations, second.equations, strict=True):
        params = {key: _merge(value, other.params[key], one.name) for key, value in one.params.items()}
        equations.append(replace(one, params=params))
    specs = {
        number: replace(spec, shape=_merge(spec.shape, second.specs[number].shape, "shape"))
        for number, spec in first.specs.items()
    }
    for number, value in first.constants.items():
        if not np.array_equal(value, second.constants[number], equal_nan=value.dtype.kind == "f"):
            raise UntranslatableError("the leading axis cannot be free: a constant depends on its length")
    return replace(first, equations=equations, specs=specs)


def _merge(one: Any, other: Any, name: str) -> Any:
    if isinstance(one, (tuple, list)) and type(one) is type(other) and len(one) == len(other):
        merged = [_merge(a, b, name) for a, b in zip(one, other, strict=True)]
        return type(one)(*merged) if hasattr(one, "_fields") else type(one)(merged)
    if isinstance(one, (int, np.integer)) and not isinstance(one, bool) and one != other:
        low, high = TRACED_ROWS
        times = (int(other) - int(one)) // (high - low)
        rows = Rows(times, int(one) - times * low)
        if rows.times * high + rows.plus == other:
            return rows
    elif one is other or callable(one) or one == other or (one != one and other != other):
        return one
    raise UntranslatableError(f"the leading axis cannot be free: {name} depends on its length")


def _needed(program: Program) -> Program:
    """Without the equations that no output depends on."""
    wanted, kept = set(program.outputs), []
    for equation in reversed(program.equations):
        if wanted.intersection(equation.outputs):
            wanted.update(equation.inputs)
            kept.append(equation)
    return replace(program, equations=kept[::-1])


def _folded(program: Program) -> Program:
    """Computes what depends on constants alone, in one compiled function, unless the result would be much larger."""
    known = {number: value.size for number, value in program.constants.items()}
    folded, left = [], []
    for equation in program.equations:
        sizes = [_values(program.specs[number]) for number in equation.outputs]
        most = max((known.get(number, 0) for number in equation.inputs), default=0)
        constant = all(number in known for number in equation.inputs)
        if constant and all(size <= max(most, _FOLD_BELOW) for size in sizes):
            folded.append(equation)
            known.update(zip(equation.outputs, map(int, sizes), strict=True))
        else:
            left.append(equation)
    read = {number for equation in left for number in equation.inputs} | set(program.outputs)
    results = [n for equation in folded for n in equation.outputs if n in read]
    used = {number for equation in folded for number in equation.inputs} & set(program.constants)

    def compute(constants: dict[int, jax.Array]) -> list[jax.Array]:
        env: dict[int, Any] = dict(constants)
        for equation in folded:
            found = equation.primitive.bind(*(env[n] for n in equation.inputs), **equation.params)
            found = found if equation.primitive.multiple_results else [found]
            env.update(zip(equation.outputs, found, strict=True))
        return [env[number] for number in results]

    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        values = jax.jit(compute)({number: program.constants[number] for number in used})
    constants = {n: value for n, value in program.constants.items() if n in read}
    constants.update(zip(results, map(as_numpy, values), strict=True))
    return replace(program, equations=left, constants=constants)


def _values(spec: Spec) -> float:
    fixed = all(isinstance(size, int) for size in spec.shape)
    return math.prod(cast(tuple[int, ...], spec.shape)) if fixed else math.inf


def as_dtype(dtype: Any) -> np.dtype:
    """The dtype that stands for one of JAX."""
    if jax.dtypes.issubdtype(dtype, jax.dtypes.extended):  # random keys, whose primitives have no translation
        return np.dtype(np.uint32)
    return np.dtype(np.float32) if dtype == jax.numpy.bfloat16 else np.dtype(dtype)


def as_numpy(value: Any) -> np.ndarray:
    """An array of ``as_dtype``."""
    array = np.asarray(value)
    return array.astype(as_dtype(array.dtype), copy=False)

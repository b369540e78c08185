from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from adafocus_jax.errors import UserError
from adafocus_jax.train.memory import GIB, OutOfMemoryError, check_memory, compile_step, step_memory

TOLD = (
    "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory space hbm. "
    "Used 21.50G of 15.75G hbm. Exceeded hbm capacity by 5.75G."
)
TOLD_AT_ONCE = (
    "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries (21.50G) exceeds "
    "available HBM (15.75G). "
)


class Refused:
    """A program whose compilation fails."""

    def __init__(self, message):
        self.message = message

    def compile(self):
        raise jax.errors.JaxRuntimeError(self.message)


def device(limit):
    stats = None if limit is None else {"bytes_limit": limit}
    return SimpleNamespace(memory_stats=lambda: stats, device_kind="TPU v5 lite")


@pytest.fixture(scope="module")
def lowered():
    """A state of 4 MiB, donated, that is multiplied by itself."""
    state = jax.ShapeDtypeStruct((1024, 1024), jnp.float32)
    return jax.jit(lambda x: x @ x.T + x, donate_argnums=0).lower(state)


def test_memory_by_kind(lowered):
    memory = step_memory(compile_step(lowered))
    assert (memory.arguments, memory.outputs, memory.aliased) == (4 * 2**20,) * 3
    assert memory.total >= memory.arguments


def test_a_step_that_fits(lowered):
    memory = check_memory(lowered, device(GIB))
    assert memory is not None
    assert memory.arguments == 4 * 2**20


def test_a_step_that_does_not_fit(lowered):
    with pytest.raises(UserError, match=r"TPU v5 lite has 0\.0: take a smaller train\.batch_size"):
        check_memory(lowered, device(2**20))


def test_the_compiler_knows_better():
    with pytest.raises(UserError, match=r"needs 21\.5 GiB on each device, TPU v5 lite has 15\.8"):
        check_memory(Refused(TOLD), device(16 * GIB))


def test_unknown_memory_compiles_nothing():
    assert check_memory(Refused(TOLD), device(None)) is None
    assert check_memory(Refused(TOLD), jax.devices()[0]) is None


def test_other_failures_pass_through():
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        compile_step(Refused("INTERNAL: broken"))


@pytest.mark.parametrize("message", [TOLD, TOLD_AT_ONCE])
def test_what_the_compiler_tells_is_read(message):
    with pytest.raises(OutOfMemoryError, match=r"needs 21\.50 GiB of 15\.75"):
        compile_step(Refused(message))

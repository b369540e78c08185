"""Strict JAX on four simulated CPU devices, one compilation cache for all processes of a run, the golden numbers."""

import atexit
import gc
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

# Before JAX starts, and for the processes that tests start too. Several devices, so that sharding is tested for real.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
# Small programs take longer to compile than to run. With LLVM's optimizations off, these two compile a training step in
# a seventh of the time. Tests of numbers or speed ask for the fixture `jit_as_for_use`.
os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "true"
# PyTorch's threads wait by spinning: where another test has the core, a pass takes ten times the CPU time.
os.environ["OMP_NUM_THREADS"] = "1"
# One cache per run, empty at first: pytest-xdist starts its workers with this environment.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="adafocus-test-programs-")
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.05"

import jax
import numpy as np
import pytest
from hypothesis import settings

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")

# Tracing makes objects by the million, and each collection looks at all that live: a seventh of the CPU time.
gc.set_threshold(200_000, 20, 100)

# The same examples in every run, however slow the machine is.
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.load_profile("repeatable")

GOLDEN = Path(__file__).parent / "golden"
AS_FOR_USE = {
    "xla_backend_optimization_level": 3,
    "xla_llvm_disable_expensive_passes": False,
    "xla_cpu_use_fusion_emitters": True,
    "xla_cpu_parallel_codegen_split_count": 32,
}


def pytest_collection_finish() -> None:
    """What is there now stays to the end."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def jit_as_for_use() -> Callable[..., Callable[..., object]]:
    """``jax.jit`` with the compiler's defaults."""
    return partial(jax.jit, compiler_options=AS_FOR_USE)


@pytest.fixture(autouse=True)
def _compile_as_before() -> Iterator[None]:
    """A command that chooses where compiled programs are kept, or how they are compiled, chooses it for itself."""
    folder = jax.config.jax_compilation_cache_dir
    yield
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    return GOLDEN


@pytest.fixture(scope="session")
def golden(golden_dir: Path) -> dict[str, np.ndarray]:
    with np.load(golden_dir / "ops.npz") as archive:
        return dict(archive)


@pytest.hookimpl(optionalhook=True, wrapper=True)
def pytest_xdist_auto_num_workers() -> Generator[None, int, int]:
    """One more than there are cores, which otherwise stand idle while tests wait for processes, files and time."""
    return (yield) + 1


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Says how a worker of pytest-xdist died, which it does not."""
    if error:
        process = node.gateway._io.popen
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
        print(f"\n{node.gateway.id}: {error}, status {process.poll()}")

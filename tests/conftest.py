"""Strict JAX on four simulated CPU devices, one compilation cache for all processes of a run, the golden numbers."""

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

# Before JAX starts, and for the processes that tests start too. Several devices, so that sharding is tested for real.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
# Small programs take longer to compile than to run. Tests of numbers or speed ask for @pytest.mark.optimized.
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "true"
# One cache per run, new and empty: pytest-xdist starts its workers with this environment.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="adafocus-test-compiled-")
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.05"

import jax
import numpy as np
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(autouse=True)
def _compile_as_marked(request: pytest.FixtureRequest) -> Iterator[None]:
    """Cheaply, or as for use; and no test leaves the cache elsewhere."""
    folder = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_disable_most_optimizations", not request.node.get_closest_marker("optimized"))
    yield
    jax.config.update("jax_disable_most_optimizations", True)
    jax.config.update("jax_compilation_cache_dir", folder)


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    return GOLDEN


@pytest.fixture(scope="session")
def golden(golden_dir: Path) -> dict[str, np.ndarray]:
    with np.load(golden_dir / "ops.npz") as archive:
        return dict(archive)

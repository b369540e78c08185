"""The allocator's settings, in a process of their own: they cannot be taken back."""

import subprocess
import sys

import pytest

# Page faults of 20 arrays of 64 MB, one after another, each touched: 16,384 for each that the kernel has to map.
CODE = """
import resource
import numpy as np
from adafocus_jax.allocator import keep_freed_memory
print(keep_freed_memory())
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
np.ones(1 << 23)
before = faults()
for _ in range(20):
    np.ones(1 << 23)
print(faults() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone has mallopt")
@pytest.mark.parametrize("off", ["", "1"])
def test_freed_memory_is_kept_unless_the_environment_says_no(off):
    environment = {"ADAFOCUS_NO_MALLOPT": off, "PYTHONPATH": ":".join(sys.path)}
    command = [sys.executable, "-c", CODE]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    took_effect, faults = done.stdout.split()
    assert took_effect == str(not off)
    assert (int(faults) < 1000) == (not off)

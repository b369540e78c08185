"""How this process's C allocator treats large arrays."""

from __future__ import annotations

import ctypes
import os

OFF = "ADAFOCUS_NO_MALLOPT"
"""Set to 1, this variable of the environment leaves the allocator as it is."""

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -4, -8  # of glibc's malloc.h
_NEVER = -1
_TOP_PAD_BYTES = 256 << 20


def keep_freed_memory() -> bool:
    """Makes glibc's ``malloc`` keep what is freed, for the next array of that size; call it before threads start.

    Returns:
      Whether it took effect: False without glibc, or where ``ADAFOCUS_NO_MALLOPT=1``.
    """
    if os.environ.get(OFF, "0") not in ("", "0"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    # By default glibc maps every activation of a network from the kernel and returns it after use, 40-80 MB a layer:
    # the page faults (5.0 million in 100 training steps of the demo, against 0.45) take as long as the arithmetic.
    settings = {_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: _NEVER, _M_TOP_PAD: _TOP_PAD_BYTES, _M_ARENA_MAX: 1}
    return all(mallopt(name, value) == 1 for name, value in settings.items())

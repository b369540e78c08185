"""Which hardware a trace is meant for, so that an op can take the form that is fast there.

Convolutions and crops have several forms with equal results and very different speed. They ask
``target_platform`` while they are traced; nothing is decided at run time.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

import jax

from adafocus_jax.errors import UserError

PLATFORMS = ("cpu", "gpu", "tpu", "reference")
"""``reference`` stands for the textbook form of every op, from which multiply-adds are counted."""

# Part of the key of jit's cache: a function that was traced for one platform is traced anew for another.
_platform = jax.make_user_context(default_value=None)


def target_platform() -> str:
    """The platform of the current trace: that of ``lowering_for``, else JAX's default backend.

    >>> with lowering_for("tpu"):
    ...     target_platform()
    'tpu'
    """
    return _platform.value or jax.default_backend()


def lowering_for(platform: str) -> AbstractContextManager[None]:
    """A context in which ops are traced for ``platform``. Raises UserError unless in ``PLATFORMS``."""
    if platform not in PLATFORMS:
        raise UserError(f"unknown platform {platform!r}: choose one of {', '.join(PLATFORMS)}")
    return _platform(platform)

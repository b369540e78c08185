"""Inference that skips work: a model on devices, stage by stage, videos leaving as soon as they are sure.

Arrays in, arrays out: no files, no configuration.
"""

from adafocus_jax.engine.backend import Backend
from adafocus_jax.engine.backends import AUTO, BACKENDS
from adafocus_jax.engine.buckets import Buckets, default_buckets
from adafocus_jax.engine.engine import Engine
from adafocus_jax.engine.exits import ExitRule
from adafocus_jax.engine.requests import Request, Result
from adafocus_jax.engine.schedule import Bucket, Schedule
from adafocus_jax.engine.stats import EngineStats, StageStats

__all__ = [
    "AUTO",
    "BACKENDS",
    "Backend",
    "Bucket",
    "Buckets",
    "Engine",
    "EngineStats",
    "ExitRule",
    "Request",
    "Result",
    "Schedule",
    "StageStats",
    "default_buckets",
]

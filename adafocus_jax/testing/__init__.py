"""Checks for your own parts, to call in your own tests: what the rest of this package relies on, rule by rule.

>>> import numpy as np
>>> check_exit_criterion(lambda logits: logits[:, -1].max(axis=-1))
>>> check_exit_criterion(lambda logits: logits[:, -1].min(axis=-1))
Traceback (most recent call last):
adafocus_jax.testing.rules.RuleBrokenError: ...
"""

from adafocus_jax.testing.criteria import check_exit_criterion
from adafocus_jax.testing.losses import check_loss_term
from adafocus_jax.testing.models import check_model
from adafocus_jax.testing.modules import check_encoder, check_head
from adafocus_jax.testing.rules import RuleBrokenError
from adafocus_jax.testing.sources import check_source

__all__ = [
    "RuleBrokenError",
    "check_encoder",
    "check_exit_criterion",
    "check_head",
    "check_loss_term",
    "check_model",
    "check_source",
]

"""Every loss term of the registry keeps the rules; each rule catches one that breaks it."""

import jax
import jax.numpy as jnp
import pytest

from adafocus_jax.losses import LOSS_TERMS
from adafocus_jax.testing import RuleBrokenError, check_loss_term
from adafocus_jax.testing.losses import training_pass


@pytest.mark.parametrize("name", LOSS_TERMS)
def test_term_of_the_registry(name):
    check_loss_term(LOSS_TERMS[name])
    plain = dict.fromkeys(("global_logits", "local_logits", "temporal_logits", "spatial_logits"))
    out = training_pass()
    one = out.policy.replace(local_logits=None)
    check_loss_term(LOSS_TERMS[name], out.replace(**plain, policy=one, random=one, average_frames=True))


def distance(out):
    return jnp.square(out.logits).sum(axis=-1)


@pytest.mark.parametrize(
    ("term", "rule"),
    [
        (lambda out, labels: distance(out).mean(), "float32 value per video"),
        (lambda out, labels: distance(out).astype(jnp.bfloat16), "float32 value per video"),
        (lambda out, labels: jnp.log(distance(out) * 0), "a finite float32 value"),
        (lambda out, labels: distance(out) - distance(out).mean(), "a video alone as among others"),
        (lambda out, labels: jnp.sqrt(0 * distance(out)), "has finite gradients"),
        (
            lambda out, labels: distance(out) * (1 if isinstance(out.logits, jax.core.Tracer) else 2),
            "gives the same without jit",
        ),
    ],
)
def test_a_term_that_breaks_a_rule(term, rule):
    with pytest.raises(RuleBrokenError, match=rule) as caught:
        check_loss_term(term)
    assert "logits=float32[3,5]" in str(caught.value)
    assert "labels int32[3]" in str(caught.value)

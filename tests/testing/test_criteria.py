"""Every exit criterion of the registry keeps the rules; each rule catches one that breaks it."""

import numpy as np
import pytest

from adafocus_jax.early_exit import CRITERIA
from adafocus_jax.testing import RuleBrokenError, check_exit_criterion


@pytest.mark.parametrize("name", CRITERIA)
def test_criterion_of_the_registry(name):
    check_exit_criterion(CRITERIA[name])


def plain_entropy(logits):
    p = np.exp(logits[:, -1] - logits[:, -1].max(axis=-1, keepdims=True))
    p /= p.sum(axis=-1, keepdims=True)
    return -(p * np.log(p + 1e-30)).sum(axis=-1)


def among_others(logits):
    scores = logits[:, -1].max(axis=-1)
    return scores - scores.mean()


def impatient(logits):
    logits -= logits.max(axis=-1, keepdims=True)
    return -np.partition(logits[:, -1], -2, axis=-1)[:, -2]


@pytest.mark.parametrize(
    ("criterion", "rule"),
    [
        (plain_entropy, "lets a sure video leave before an unsure one"),
        (among_others, "scores a video alone as among others"),
        (impatient, "leaves its input alone"),
        (lambda logits: logits.max(axis=-1), "scores each video with one finite number"),
        (lambda logits: logits[:, -1].max(axis=-1) / logits[:, -1].std(axis=-1), "one finite number"),
        (lambda logits: logits[:, 1].max(axis=-1), "one finite number"),
    ],
)
@pytest.mark.filterwarnings("ignore:(divide by zero|invalid value):RuntimeWarning")
def test_a_criterion_that_breaks_a_rule(criterion, rule):
    with pytest.raises(RuleBrokenError, match=rule) as caught:
        check_exit_criterion(criterion)
    assert "logits float32[7,1,6]" in str(caught.value)

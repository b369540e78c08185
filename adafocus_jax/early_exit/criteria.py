"""Exit criteria: how sure an exit is of a video, from the logits of all exits so far."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from adafocus_jax.errors import UserError
from adafocus_jax.metrics import log_softmax, softmax

Criterion = Callable[[np.ndarray], np.ndarray]
"""From the float32 logits ``[n, e + 1, K]`` of exits 0…e to the scores ``[n]`` of exit e; higher leaves earlier.

A video's score must not depend on the other videos."""


def confidence(logits: np.ndarray) -> np.ndarray:
    """The largest raw logit of the last exit (as in the authors' release)."""
    return logits[:, -1].max(axis=-1)


def entropy(logits: np.ndarray) -> np.ndarray:
    """``Σ p log p ≤ 0`` of the last exit's softmax: the negative entropy (as in the authors' release)."""
    # From the log-softmax: p · log p is then 0, not NaN, where p underflows to 0.
    log_p = log_softmax(logits[:, -1])
    return (np.exp(log_p) * log_p).sum(axis=-1)


def margin(logits: np.ndarray) -> np.ndarray:
    """The last exit's largest logit less its second largest: the log odds of the two leading classes.

    >>> margin(np.array([[[1.0, 4.0, 2.5]]])).tolist()
    [1.5]
    """
    if logits.shape[-1] < 2:
        raise UserError(
            "early-exit criterion 'margin' compares two classes, and this model has one: choose another"
        )
    second, first = np.moveaxis(np.partition(logits[:, -1], -2, axis=-1)[:, -2:], -1, 0)
    return first - second


def patience(logits: np.ndarray) -> np.ndarray:
    """How many of the latest exits in a row, the last one included, predict the same class; plus its probability.

    The probability, above 0 and at most 1, only orders videos of equal counts, so that any share can be asked for:
    a threshold of p + 0.4 means that p exits have agreed and the class has at least probability 0.4, or p + 1 agree.
    Zhou et al., *BERT Loses Patience*, NeurIPS 2020.

    >>> patience(np.array([[[0.0, 5.0], [0.0, 0.0], [9.0, 1.0], [2.0, 2.0]]])).tolist()
    [3.5]
    """
    predicted = logits.argmax(axis=-1)[:, ::-1]
    agreed = np.logical_and.accumulate(predicted == predicted[:, :1], axis=1).sum(axis=1)
    return agreed + softmax(logits[:, -1]).max(axis=-1)


CRITERIA: dict[str, Criterion] = {
    "confidence": confidence,
    "entropy": entropy,
    "margin": margin,
    "patience": patience,
}
"""Exit criteria by name; ``register_criterion`` adds to them."""


def register_criterion(name: str, criterion: Criterion) -> None:
    """Adds an exit criterion, for which thresholds are then solved and stored as for the others.

    Raises:
      UserError: the name stands for another criterion already.
    """
    if CRITERIA.setdefault(name, criterion) is not criterion:
        raise UserError(
            f"early-exit criterion {name!r} is registered already: choose a name other than {', '.join(CRITERIA)}"
        )


def check_criterion(criterion: str) -> None:
    """Raises UserError unless ``criterion`` is a key of ``CRITERIA``."""
    if criterion not in CRITERIA:
        raise UserError(f"unknown early-exit criterion {criterion!r}: choose from {', '.join(CRITERIA)}")


def exit_scores(logits: np.ndarray, criterion: str) -> np.ndarray:
    """How sure each exit is of each video; higher leaves earlier.

    Args:
      logits: ``[n, E, K]`` float, unnormalised, cheapest exit first.
      criterion: a key of ``CRITERIA``.

    Returns:
      ``[n, E]`` float32.

    Raises:
      UserError: an unknown criterion, fewer than 2 exits, or logits that are not finite.

    Example:
      >>> exit_scores(np.array([[[1.0, 3.0], [0.0, 0.0]]]), "confidence").tolist()
      [[3.0, 0.0]]
    """
    check_criterion(criterion)
    logits = np.asarray(logits)
    if logits.ndim != 3 or logits.shape[1] < 2:
        raise UserError(
            f"exit logits of shape {logits.shape}: early exit needs [videos, exits, classes], 2 exits or more"
        )
    logits = np.asarray(logits, np.float32)
    with np.errstate(invalid="ignore"):  # answered by the check
        exits = [CRITERIA[criterion](logits[:, : last + 1]) for last in range(logits.shape[1])]
    scores = np.stack(exits, axis=1).astype(np.float32)
    check_scores(scores)
    return scores


def check_scores(scores: np.ndarray) -> None:
    """Raises UserError, which names the first video and exit, where a score is not finite."""
    bad = np.argwhere(~np.isfinite(scores))
    if len(bad):
        raise UserError(
            f"exit scores are not finite, first at video {bad[0][0]}, exit {bad[0][1]}: the model diverged, "
            "use an earlier checkpoint"
        )

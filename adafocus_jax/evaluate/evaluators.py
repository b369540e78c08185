"""Evaluators take predictions and yield named numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from adafocus_jax.errors import UserError
from adafocus_jax.evaluate.predict import Predictions
from adafocus_jax.metrics import mean_average_precision, top_k_accuracy

METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "top1": top_k_accuracy,
    "top5": lambda logits, labels: top_k_accuracy(logits, labels, k=5),
    "mAP": lambda logits, labels: mean_average_precision(logits, labels).value,
}
"""From logits ``[n, K]`` and labels ``[n, L]`` (−1 pads) to a number in %."""

PredictionEvaluator = Callable[[Predictions], Iterable[tuple[str, float]]]


def classification(predictions: Predictions) -> Iterator[tuple[str, float]]:
    """Top-1, top-5 and mAP of the last exit, in %."""
    for name, metric in METRICS.items():
        yield name, metric(predictions.logits, predictions.labels)


def per_exit(predictions: Predictions, metric: str = "top1") -> Iterator[tuple[str, float]]:
    """A metric of ``METRICS`` at every exit, in %, cheapest first."""
    for number in range(predictions.exit_logits.shape[1]):
        yield (
            f"exit{number}_{metric}",
            METRICS[metric](predictions.exit_logits[:, number], predictions.labels),
        )


EVALUATORS: dict[str, PredictionEvaluator] = {"classification": classification}
"""Name to evaluator. ``register_evaluator`` adds one."""


def register_evaluator(name: str, evaluator: PredictionEvaluator) -> None:
    """Makes an evaluator available to ``config.train.evaluators``, for training and for ``adafocus evaluate``.

    Args:
      name: as in the configuration.
      evaluator: from the predictions on a whole split to named numbers.

    Raises:
      UserError: another evaluator has this name.
    """
    if EVALUATORS.get(name, evaluator) is not evaluator:
        raise UserError(f"evaluator {name!r} exists already: choose another name")
    EVALUATORS[name] = evaluator


def score(predictions: Predictions, evaluators: Iterable[str] = ("classification",)) -> dict[str, float]:
    """The numbers of all these evaluators of ``EVALUATORS``.

    Raises:
      UserError: an unknown evaluator, or two give a number the same name.
    """
    found: dict[str, float] = {}
    for name in evaluators:
        if name not in EVALUATORS:
            raise UserError(f"unknown evaluator {name!r}: choose among {', '.join(EVALUATORS)}")
        for key, value in EVALUATORS[name](predictions):
            if key in found:
                raise UserError(f"evaluator {name!r} yields {key!r}, as another does: give it another name")
            found[key] = float(value)
    return found

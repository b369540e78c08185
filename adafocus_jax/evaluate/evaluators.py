"""Evaluators take predictions and yield named numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from adafocus_jax.evaluate.predict import Predictions
from adafocus_jax.metrics import mean_average_precision, top_k_accuracy

METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "top1": top_k_accuracy,
    "top5": lambda logits, labels: top_k_accuracy(logits, labels, k=5),
    "mAP": lambda logits, labels: mean_average_precision(logits, labels).value,
}
"""From logits ``[n, K]`` and labels ``[n, L]`` (−1 pads) to a number in %."""


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

"""Evaluators take predictions and yield named numbers."""

from __future__ import annotations

from collections.abc import Iterator

from adafocus_jax.evaluate.predict import Predictions
from adafocus_jax.metrics import mean_average_precision, top_k_accuracy


def classification(predictions: Predictions) -> Iterator[tuple[str, float]]:
    """Top-1, top-5 and mAP of the last exit, in %."""
    yield "top1", top_k_accuracy(predictions.logits, predictions.labels)
    yield "top5", top_k_accuracy(predictions.logits, predictions.labels, k=5)
    yield "mAP", mean_average_precision(predictions.logits, predictions.labels).value


def per_exit(predictions: Predictions) -> Iterator[tuple[str, float]]:
    """Top-1 of every exit, in %, cheapest first."""
    for number in range(predictions.exit_logits.shape[1]):
        yield f"exit{number}_top1", top_k_accuracy(predictions.exit_logits[:, number], predictions.labels)

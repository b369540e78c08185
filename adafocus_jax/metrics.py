"""Accuracy and mean average precision over a whole split: exact, on the host, in NumPy.

Both take the logits of all videos at once: an average over batches of an average precision is not the average
precision. ``mask`` leaves out the padding that fills the last batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from adafocus_jax.errors import UserError


@dataclass(frozen=True, eq=False)
class MeanAveragePrecision:
    """Mean average precision and what it is the mean of, in %."""

    value: float
    """Mean over all K classes, 0…100."""
    per_class: np.ndarray
    """``[K]`` float64, 0…100: average precision of each class."""


def mean_average_precision(
    logits: np.ndarray, labels: np.ndarray, mask: np.ndarray | None = None
) -> MeanAveragePrecision:
    """Average precision of ranking all videos by each class's softmax score, averaged over classes.

    With ``r_1 < … < r_m`` the ranks (from 1) of a class's m positives, ``AP = 1/m · Σ_i i / r_i``. Equal
    scores rank in the order in which the videos are given. A class without positives scores 0 and counts, as
    in the authors' release.

    Args:
      logits: ``[n, K]`` float, unnormalised.
      labels: ``[n, L]`` int, −1 pads: all classes of each video, or ``[n]``, one each. A video without any is
        a negative of every class.
      mask: ``[n]`` bool; False leaves a row out.

    Raises:
      UserError: no videos, logits that are not finite, a label that is not a class, or shapes that disagree.

    Example:
      >>> logits = np.array([[3.0, 0.0], [2.0, 0.0], [1.0, 0.0]])  # class 1 ranks 2, 1, 0
      >>> mean_average_precision(logits, np.array([[0, -1], [1, -1], [0, 1]])).per_class.round(1).tolist()
      [83.3, 100.0]
    """
    logits, labels = _scored_rows(logits, labels, mask)
    num_classes = logits.shape[1]
    relevant = np.zeros((num_classes + 1, len(logits)), bool)
    relevant[labels, np.arange(len(logits))[:, None]] = True  # a −1 falls on the extra last row
    # Ranks as the softmax does, without ties where that rounds to 1 or underflows to 0.
    scores = log_softmax(logits.astype(np.float64)).T
    per_class = np.array([_average_precision(scores[k], relevant[k]) for k in range(num_classes)])
    return MeanAveragePrecision(value=100.0 * float(per_class.mean()), per_class=100.0 * per_class)


def top_k_accuracy(
    logits: np.ndarray, labels: np.ndarray, k: int = 1, mask: np.ndarray | None = None
) -> float:
    """Share of videos, in %, whose label is among the k largest logits.

    A video with several labels counts by its first, as in the authors' release (hitting another is a miss);
    one without labels is a miss. Among equal logits the lower class ranks first, as in ``argmax``.

    Args:
      logits: ``[n, K]`` float.
      labels: ``[n]`` or ``[n, L]`` int, −1 pads.
      k: at least 1; more than K counts as K.
      mask: ``[n]`` bool; False leaves a row out.

    Raises:
      UserError: k below 1, or as ``mean_average_precision``.

    Example:
      >>> logits = np.array([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0]])
      >>> top_k_accuracy(logits, np.array([0, 1])), top_k_accuracy(logits, np.array([0, 1]), k=2)
      (50.0, 100.0)
    """
    if k < 1:
        raise UserError(f"top-k accuracy with k = {k}: k has to be at least 1")
    logits, labels = _scored_rows(logits, labels, mask)
    first = labels[:, :1]
    score = np.take_along_axis(logits, np.maximum(first, 0), axis=1)
    lower = np.arange(logits.shape[1]) < first
    rank = ((logits > score) | ((logits == score) & lower)).sum(axis=1)
    return 100.0 * float(np.mean((rank < k) & (first[:, 0] >= 0)))


def _average_precision(scores: np.ndarray, relevant: np.ndarray) -> float:
    order = np.argsort(-scores, kind="stable")
    ranks = np.flatnonzero(relevant[order]) + 1
    return float(np.mean(np.arange(1, len(ranks) + 1) / ranks)) if len(ranks) else 0.0


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Log-probabilities over the last axis, in the dtype of ``logits``; finite where the softmax underflows.

    >>> log_softmax(np.array([0.0, -1000.0])).tolist()
    [0.0, -1000.0]
    """
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities over the last axis, in float64.

    >>> softmax(np.array([0.0, np.log(3)])).tolist()
    [0.25, 0.75]
    """
    exponentials = np.exp(np.asarray(logits, np.float64) - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def _scored_rows(
    logits: np.ndarray, labels: np.ndarray, mask: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Checked ``(logits [n, K], labels [n, L])`` of the rows that count."""
    logits, labels = np.asarray(logits), np.asarray(labels)
    labels = labels[:, None] if labels.ndim == 1 else labels
    keep = np.ones(len(logits), bool) if mask is None else np.asarray(mask, bool)
    if logits.ndim != 2 or labels.ndim != 2 or not len(logits) == len(labels) == len(keep):
        raise UserError(
            f"logits {logits.shape}, labels {labels.shape} and mask {keep.shape} disagree: "
            "give [videos, classes], [videos, labels] and [videos]"
        )
    logits, labels = logits[keep], labels[keep]
    if not len(logits):
        raise UserError("no videos to score: the split is empty, or the mask leaves none")
    broken = int((~np.isfinite(logits)).any(axis=1).sum())
    if broken:
        raise UserError(
            f"logits of {broken} videos are not finite: the model diverged, use an earlier checkpoint"
        )
    wrong = labels[(labels < -1) | (labels >= logits.shape[1])]
    if wrong.size:
        raise UserError(
            f"label {wrong[0]} with {logits.shape[1]} classes: give 0…{logits.shape[1] - 1}, −1 as pad"
        )
    return logits, labels

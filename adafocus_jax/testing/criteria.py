"""The check of an exit criterion."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from adafocus_jax.testing.rules import assert_equal, rule


def check_exit_criterion(
    criterion: Callable[[np.ndarray], np.ndarray], num_exits: int = 4, num_classes: int = 6
) -> None:
    """Checks an exit criterion by all rules that solving and applying thresholds rely on.

    It takes the float32 logits ``[n, e + 1, K]`` of exits 0…e and returns the scores ``[n]`` of exit e. The rules:
    shape; finite, also for logits that are equal or far apart; a video alone scores what it scores among others; the
    same each time; its input is left alone; a sure video leaves before an unsure one.

    Args:
      criterion: as ``register_criterion`` takes it.
      num_exits: ``E`` to try it with.
      num_classes: ``K`` to try it with.

    Raises:
      RuleBrokenError: names the rule, and the shapes.
    """
    part = f"exit criterion {getattr(criterion, '__name__', criterion)}"
    logits = np.random.default_rng(0).normal(0, 3, (7, num_exits, num_classes)).astype(np.float32)
    logits[0], logits[1] = 0, logits[1] * 1e4
    for last in range(num_exits):
        seen = logits[:, : last + 1]
        before = seen.copy()
        with rule(part, "scores each video with one finite number", logits=seen):
            scores = np.asarray(criterion(seen))
            assert scores.shape == (7,), f"scores of shape {scores.shape}"
            assert np.isfinite(scores).all(), f"scores {scores}"
        with rule(part, "leaves its input alone and scores the same each time", logits=seen):
            assert_equal(seen, before)
            assert_equal(np.asarray(criterion(seen)), scores)
        with rule(part, "scores a video alone as among others", logits=seen):
            alone = np.concatenate([np.asarray(criterion(seen[i : i + 1])) for i in range(7)])
            np.testing.assert_allclose(alone, scores, rtol=1e-5, atol=1e-6)
        with rule(part, "lets a sure video leave before an unsure one", logits=seen):
            unsure = np.zeros((1, last + 1, num_classes), np.float32)
            sure = unsure.copy()
            sure[..., 2] = 8
            low, high = float(criterion(unsure)[0]), float(criterion(sure)[0])
            assert high > low, f"logits of (8, 0, …) score {high:.3g}, equal ones {low:.3g}"

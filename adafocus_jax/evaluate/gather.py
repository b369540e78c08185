"""What the processes of a run predicted, each on its share of a split, put together in every one of them."""

from __future__ import annotations

import jax
import numpy as np
from jax.experimental import multihost_utils

from adafocus_jax.evaluate.predict import Predictions
from adafocus_jax.watchdog import watched


def gather_predictions(own: Predictions) -> Predictions:
    """Predictions of all processes in the order of their records: what one process alone would have found."""
    if jax.process_count() == 1:
        return own
    with watched("the other processes to end their share of the evaluation"):
        counts = multihost_utils.process_allgather(np.asarray(len(own.index)))
        # All processes have to bring arrays of one shape.
        short = int(counts.max()) - len(own.index)
        real = np.arange(counts.max())[None] < counts[:, None]

        def gather(array: np.ndarray) -> np.ndarray:
            padded = np.pad(array, [(0, short)] + [(0, 0)] * (array.ndim - 1))
            return np.asarray(multihost_utils.process_allgather(padded))[real]

        gathered = {name: gather(array) for name, array in vars(own).items()}
    order = np.argsort(gathered["index"], kind="stable")
    return Predictions(**{name: array[order] for name, array in gathered.items()})

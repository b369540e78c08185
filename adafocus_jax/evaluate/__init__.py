"""Running a trained model over a split or over single videos, and what the numbers are."""

from typing import TYPE_CHECKING

from adafocus_jax.lazy import lazy_exports

if TYPE_CHECKING:
    from adafocus_jax.evaluate.checkpoint import CheckpointEvaluator as CheckpointEvaluator
    from adafocus_jax.evaluate.evaluators import METRICS as METRICS
    from adafocus_jax.evaluate.evaluators import classification as classification
    from adafocus_jax.evaluate.evaluators import per_exit as per_exit
    from adafocus_jax.evaluate.evaluators import register_evaluator as register_evaluator
    from adafocus_jax.evaluate.exits import solve_policies as solve_policies
    from adafocus_jax.evaluate.exits import store_policies as store_policies
    from adafocus_jax.evaluate.exits import stored_policies as stored_policies
    from adafocus_jax.evaluate.exits import sweep_exits as sweep_exits
    from adafocus_jax.evaluate.gather import gather_predictions as gather_predictions
    from adafocus_jax.evaluate.predict import Predictions as Predictions
    from adafocus_jax.evaluate.predict import average_crops as average_crops
    from adafocus_jax.evaluate.predict import make_predict_function as make_predict_function
    from adafocus_jax.evaluate.predict import predict_split as predict_split

__all__, __getattr__, __dir__ = lazy_exports(__name__, __file__)

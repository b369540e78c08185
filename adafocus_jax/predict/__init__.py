"""A checkpoint and videos become predictions."""

from typing import TYPE_CHECKING

from adafocus_jax.lazy import lazy_exports

if TYPE_CHECKING:
    from adafocus_jax.predict.exit_policy import find_policy as find_policy
    from adafocus_jax.predict.inputs import expand_videos as expand_videos
    from adafocus_jax.predict.loading import TrainedModel as TrainedModel
    from adafocus_jax.predict.loading import load_model as load_model
    from adafocus_jax.predict.predictor import Predictor as Predictor
    from adafocus_jax.predict.predictor import VideoInput as VideoInput
    from adafocus_jax.predict.videos import source_predictions as source_predictions
    from adafocus_jax.predict.videos import video_prediction as video_prediction

__all__, __getattr__, __dir__ = lazy_exports(__name__, __file__)

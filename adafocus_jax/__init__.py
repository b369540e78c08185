"""Uni-AdaFocus in JAX and Flax: where and when to look in a video, learned end to end.

Importing this package loads neither JAX nor a video decoder: every name below loads when it is first used.
"""

from typing import TYPE_CHECKING

from adafocus_jax.lazy import lazy_exports

if TYPE_CHECKING:
    from adafocus_jax import ops as ops
    from adafocus_jax import testing as testing
    from adafocus_jax.checkpoint import Checkpoints as Checkpoints
    from adafocus_jax.checkpoint import convert_state_dict as convert_state_dict
    from adafocus_jax.checkpoint import load_checkpoint as load_checkpoint
    from adafocus_jax.checkpoint import register_names as register_names
    from adafocus_jax.checkpoint import to_state_dict as to_state_dict
    from adafocus_jax.config import base_config as base_config
    from adafocus_jax.config import load_config as load_config
    from adafocus_jax.config import loss_function as loss_function
    from adafocus_jax.config import make_model as make_model
    from adafocus_jax.config import run_training as run_training
    from adafocus_jax.data import DATASETS as DATASETS
    from adafocus_jax.data import ArrayVideo as ArrayVideo
    from adafocus_jax.data import ClipSpec as ClipSpec
    from adafocus_jax.data import DatasetSpec as DatasetSpec
    from adafocus_jax.data import ReadOptions as ReadOptions
    from adafocus_jax.data import clip_dataset as clip_dataset
    from adafocus_jax.data import eval_batches as eval_batches
    from adafocus_jax.data import open_data as open_data
    from adafocus_jax.data import read_clip as read_clip
    from adafocus_jax.data import read_dataset as read_dataset
    from adafocus_jax.data import read_video as read_video
    from adafocus_jax.data import register_dataset as register_dataset
    from adafocus_jax.data import register_transform as register_transform
    from adafocus_jax.data import train_batches as train_batches
    from adafocus_jax.data.prepare import inspect_records as inspect_records
    from adafocus_jax.data.prepare import prepare as prepare
    from adafocus_jax.early_exit import CRITERIA as CRITERIA
    from adafocus_jax.early_exit import ExitPolicy as ExitPolicy
    from adafocus_jax.early_exit import early_exit_curve as early_exit_curve
    from adafocus_jax.early_exit import register_criterion as register_criterion
    from adafocus_jax.early_exit import solve_policy as solve_policy
    from adafocus_jax.engine import Engine as Engine
    from adafocus_jax.engine import EngineStats as EngineStats
    from adafocus_jax.engine import Request as Request
    from adafocus_jax.engine import Result as Result
    from adafocus_jax.errors import UserError as UserError
    from adafocus_jax.evaluate import CheckpointEvaluator as CheckpointEvaluator
    from adafocus_jax.evaluate import Predictions as Predictions
    from adafocus_jax.evaluate import classification as classification
    from adafocus_jax.evaluate import make_predict_function as make_predict_function
    from adafocus_jax.evaluate import predict_split as predict_split
    from adafocus_jax.evaluate import register_evaluator as register_evaluator
    from adafocus_jax.evaluate import solve_policies as solve_policies
    from adafocus_jax.evaluate import store_policies as store_policies
    from adafocus_jax.flops import ModelCost as ModelCost
    from adafocus_jax.flops import model_cost as model_cost
    from adafocus_jax.losses import Losses as Losses
    from adafocus_jax.losses import register_loss_term as register_loss_term
    from adafocus_jax.losses import uni_adafocus_loss as uni_adafocus_loss
    from adafocus_jax.metrics import mean_average_precision as mean_average_precision
    from adafocus_jax.metrics import top_k_accuracy as top_k_accuracy
    from adafocus_jax.models import ENCODERS as ENCODERS
    from adafocus_jax.models import HEADS as HEADS
    from adafocus_jax.models import MODELS as MODELS
    from adafocus_jax.models import create_model as create_model
    from adafocus_jax.models import init_variables as init_variables
    from adafocus_jax.models import model_defaults as model_defaults
    from adafocus_jax.models import register_encoder as register_encoder
    from adafocus_jax.models import register_head as register_head
    from adafocus_jax.models import sample_draws as sample_draws
    from adafocus_jax.ops import boxes_from_actions as boxes_from_actions
    from adafocus_jax.ops import crop_patches as crop_patches
    from adafocus_jax.ops import expected_logits as expected_logits
    from adafocus_jax.ops import normalize_frames as normalize_frames
    from adafocus_jax.ops import select_frames as select_frames
    from adafocus_jax.ops import temporal_shift as temporal_shift
    from adafocus_jax.plugins import import_plugins as import_plugins
    from adafocus_jax.predict import Predictor as Predictor
    from adafocus_jax.train import Evaluator as Evaluator
    from adafocus_jax.train import OptimizerOptions as OptimizerOptions
    from adafocus_jax.train import ParamGroup as ParamGroup
    from adafocus_jax.train import TrainOptions as TrainOptions
    from adafocus_jax.train import TrainResult as TrainResult
    from adafocus_jax.train import TrainState as TrainState
    from adafocus_jax.train import create_state as create_state
    from adafocus_jax.train import make_optimizer as make_optimizer
    from adafocus_jax.train import make_train_step as make_train_step
    from adafocus_jax.train import register_optimizer as register_optimizer
    from adafocus_jax.train import train as train
    from adafocus_jax.types import Draws as Draws
    from adafocus_jax.types import ModelOutput as ModelOutput
    from adafocus_jax.types import VideoBatch as VideoBatch
    from adafocus_jax.types import VideoPrediction as VideoPrediction
    from adafocus_jax.visualize import class_scores as class_scores
    from adafocus_jax.visualize import contact_sheet as contact_sheet
    from adafocus_jax.visualize import temporal_weights as temporal_weights
    from adafocus_jax.visualize import write_overlay as write_overlay
    from adafocus_jax.visualize import write_png as write_png

__version__ = "0.1.0"

__all__, __getattr__, __dir__ = lazy_exports(__name__, __file__)

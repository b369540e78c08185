"""From settings to the arguments of the library."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from adafocus_jax.config.checks import layer_groups
from adafocus_jax.data.batches.clips import ClipSpec
from adafocus_jax.data.batches.sources import Source, open_data
from adafocus_jax.data.datasets.mirrored import mirrored_labels
from adafocus_jax.data.records.storage import CacheOptions
from adafocus_jax.losses import uni_adafocus_loss
from adafocus_jax.models import VideoModel, create_model
from adafocus_jax.plugins import import_plugins
from adafocus_jax.train.loop import TrainOptions
from adafocus_jax.train.optimizer import OptimizerOptions, ParamGroup
from adafocus_jax.train.step import AXIS, LossFunction
from adafocus_jax.types import VideoBatch


def make_model(settings: Mapping[str, Any]) -> VideoModel:
    """The model of settings with the data's classes, or of those saved beside a checkpoint. Imports their plugins."""
    import_plugins(settings.get("plugins", ()))
    norm_axis = AXIS if settings["train"]["sync_batch_norm"] else None
    return create_model(**settings["model"], norm_axis=norm_axis)


def clip_spec(settings: Mapping[str, Any], model: VideoModel) -> ClipSpec:
    """How clips are cut for this model."""
    data = settings["data"]
    return ClipSpec(
        num_candidates=model.num_candidates,
        image_size=model.image_size,
        num_glance=model.num_separate_glance,
        resize=data["resize"] or None,
        flip=data["flip"] in (None, True),
        flip_labels=mirrored_labels(settings["classes"]) if data["flip_labels"] else None,
        scales=tuple(data["scales"]),
    )


def open_split(data: Mapping[str, Any], split: str, path: str | None = None) -> Source:
    """Opens a split by the ``data`` part of a run's configuration; ``path``: in place of its ``dir``."""
    cache = CacheOptions(data["cache_dir"], data["cache_gb"])
    return open_data(path or data["dir"], split, val_fraction=data["val_fraction"], cache=cache)


def batch_shapes(spec: ClipSpec, batch_size: int) -> VideoBatch:
    """Shapes and dtypes of a global batch of training."""

    def frames(count: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((batch_size, count, spec.image_size, spec.image_size, 3), jnp.uint8)

    return VideoBatch(
        frames=frames(spec.num_candidates),
        glance=frames(spec.num_glance) if spec.num_glance else None,
        label=jax.ShapeDtypeStruct((batch_size,), jnp.int32),
    )


def loss_function(settings: Mapping[str, Any]) -> LossFunction:
    """The loss with its weights."""
    return partial(uni_adafocus_loss, weights=settings["loss"]["weights"])


def optimizer_options(settings: Mapping[str, Any]) -> OptimizerOptions:
    """The optimizer's options."""
    options = dict(settings["optimizer"])
    groups = [ParamGroup(**group) for group in options.pop("groups").values()]
    return OptimizerOptions(
        learning_rate=options.pop("lr"),
        groups=(*layer_groups(options.pop("layer_factors")), *groups),
        clip_norm=options.pop("clip_norm") or None,
        **options,
    )


def train_options(settings: Mapping[str, Any], num_examples: int) -> TrainOptions:
    """The loop's options; ``epochs`` of ``num_examples`` become steps, the last one may be cut short."""
    options = settings["train"]
    steps = options["steps"] or max(1, int(options["epochs"] * num_examples / options["batch_size"]))
    names = {field.name for field in fields(TrainOptions)} & options.keys()
    return TrainOptions(num_steps=steps, seed=settings["seed"], **{name: options[name] for name in names})

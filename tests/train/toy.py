"""A model with the interface of UniAdaFocus that compiles in a second, and a run of it in a process of its own.

As a script: ``toy.py WORKDIR [die=STEP] [stop=STEP] [full=STEP] [torn=STEP] [bad=STEP]`` trains for 12 steps; the
process kills itself, asks itself to stop, finds the disk full, or cannot read, when the batch of that step is asked
for, or kills itself when the checkpoint of that step is written but not yet in its place. With ``records=URL
cache=GB`` it trains for 12 steps on those, through a cache of its own, with synchronised norm, and is scored on them,
where ``late=1`` asks it to stop; ``join=HOST:PORT,N,ID`` makes it one of several.
"""

import logging
import os
import resource
import signal
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from adafocus_jax.cli.main import status_of
from adafocus_jax.data.batches.pipeline import ClipSpec, eval_batches, train_batches
from adafocus_jax.data.batches.sources import open_data
from adafocus_jax.data.records import shard_cache
from adafocus_jax.data.records.schema import RecordError
from adafocus_jax.data.records.storage import CacheOptions
from adafocus_jax.evaluate.evaluators import classification
from adafocus_jax.evaluate.gather import gather_predictions
from adafocus_jax.evaluate.predict import make_predict_function, predict_split
from adafocus_jax.losses import Losses, cross_entropy
from adafocus_jax.models.draws import policy_draws
from adafocus_jax.models.layers import BatchNorm, Dense, Dropout
from adafocus_jax.train import Evaluator, OptimizerOptions, ParamGroup, TrainOptions, train
from adafocus_jax.train.processes import connect
from adafocus_jax.types import ModelOutput, PassOutput, VideoBatch

CLASSES, FRAMES, SIDE, BATCH = 3, 4, 4, 8
GROUPS = (ParamGroup("encoder/.*"), ParamGroup("norm/.*"), ParamGroup("(head|policy)/.*", 2.0))
SGD = OptimizerOptions(0.05, BATCH, GROUPS, weight_decay=1e-3, warmup_frac=0.1)


class Toy(nn.Module):
    """A frame's pixels to features, batch norm, dropout, one head, one policy."""

    num_classes: int = CLASSES
    norm_axis: str | None = None
    norm: bool = True
    num_glance: int = 2
    num_candidates: int = FRAMES
    num_focus: int = 2
    image_size: int = SIDE
    spatial: str = "learned"
    temporal: str = "learned"
    temporal_estimator: str = "exact"
    box_per_video: ClassVar[bool] = False
    num_separate_glance: ClassVar[int | None] = None

    def with_all_parameters(self):
        return self

    def draws(self, key):
        return policy_draws(self, key)

    @nn.compact
    def __call__(self, batch, train=False, draws=None):
        frames = batch.frames[:, : self.num_glance].astype(jnp.float32) / 128 - 1
        x = Dense(6, name="encoder")(frames.reshape(*frames.shape[:2], -1))
        # Without norm its arrays are there all the same, unused in training.
        x = nn.relu(BatchNorm(axis_name=self.norm_axis, name="norm")(x, train and self.norm))
        x = Dropout(0.2, name="dropout")(x, draws.dropout if draws else None, train)
        policy = Dense(5, name="policy")(x)
        weights, actions = jax.nn.softmax(policy[..., 0]), nn.sigmoid(policy[..., 1:])
        if draws and train:
            weights = weights * (1 + 0.1 * draws.thresholds)
        logits = Dense(self.num_classes, name="head")(x)
        logits = jnp.concatenate([logits, (weights[..., None] * logits).sum(1, keepdims=True)], axis=1)
        boxes = actions * SIDE
        one_pass = PassOutput(exit_logits=logits, local_logits=logits, boxes=boxes)
        indices = jnp.zeros(boxes.shape[:2], jnp.int32)
        return ModelOutput(
            logits=logits[:, -1],
            exit_logits=logits,
            global_logits=logits,
            local_logits=logits,
            temporal_logits=None,
            spatial_logits=None,
            frame_weights=weights,
            frame_indices=indices,
            glance_indices=indices,
            actions=actions,
            boxes=boxes,
            glance_features=x,
            policy=one_pass,
            random=one_pass,
        )


def loss(out, labels):
    """Cross-entropy and a term of the actions; not a number where a label is negative."""
    exits = jnp.where(labels.min() < 0, jnp.nan, cross_entropy(out.exit_logits, jnp.maximum(labels, 0)))
    norm = jnp.square(out.actions - 1).mean(axis=(1, 2))
    return Losses(exits + norm, {"exits": exits, "norm": norm})


def batch(step, poison=None):
    """The global batch of a step: brightness tells the class."""
    rng = np.random.default_rng(step)
    label = rng.integers(0, CLASSES, BATCH).astype(np.int32)
    frames = rng.integers(0, 128, (BATCH, FRAMES, SIDE, SIDE, 3), dtype=np.uint8)
    frames += (40 * label).astype(np.uint8)[:, None, None, None, None]
    return {"frames": frames, "label": np.where(step == poison, -1, label).astype(np.int32)}


def batches(start, num_steps, poison=None, at=None):
    """Batches from ``start`` on; ``at``: step to what is called when its batch is asked for."""
    for step in range(start, num_steps):
        if at and step in at:
            at[step]()
        yield batch(step, poison)


def shapes():
    return VideoBatch(**{name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in batch(0).items()})


def run(
    workdir,
    *,
    steps=12,
    poison=None,
    at=None,
    evaluate=None,
    eval_every=0,
    evaluators=None,
    initialize=None,
    config=None,
    optimizer=SGD,
    learning_rate=0.05,
    **options,
):
    """Trains the toy in ``workdir``."""
    options = {"log_every": 2, "checkpoint_every": 3, **options}
    if evaluators is None:
        evaluators = [Evaluator("eval", evaluate, eval_every)] if evaluate else []
    if isinstance(optimizer, OptimizerOptions):
        optimizer = replace(optimizer, learning_rate=learning_rate)
    return train(
        Toy(),
        partial(batches, num_steps=steps, poison=poison, at=at),
        workdir=workdir,
        options=TrainOptions(num_steps=steps, batch_size=BATCH, seed=1, **options),
        optimizer=optimizer,
        loss=loss,
        batch_shapes=shapes(),
        config={"steps": steps, "data": {"workers": 0}} if config is None else config,
        free_keys=("data.workers",),
        evaluators=evaluators,
        initialize=initialize,
    )


STEPS_ON_RECORDS = 12
CLIP = ClipSpec(FRAMES, SIDE, resize=SIDE, flip=False, scales=(1.0,))


def own_share():
    return {"process_index": jax.process_index(), "process_count": jax.process_count()}


def evaluate_on(source, variables, progress=None, late=None):
    """Scores, found by all processes together."""
    if late:
        os.kill(os.getpid(), signal.SIGTERM)
    predict = make_predict_function(Toy(len(source.classes)), variables)
    batches = eval_batches(source, CLIP, batch_size=BATCH, num_threads=0, **own_share())
    own = predict_split(predict, (VideoBatch(**batch) for batch in batches), progress)
    return dict(classification(gather_predictions(own)))


def cache_folder(workdir):
    """That of this process."""
    return Path(f"{workdir}-cache-{jax.process_index()}")


def list_fetches(folder):
    """Lists each shard that is fetched from now on in ``folder/fetched``."""
    fetch_file = shard_cache.fetch_file

    def fetch(url, path, checksum, **options):
        if "array_record" in url:
            with open(folder / "fetched", "a") as file:
                print(url.rpartition("/")[2], file=file)
        fetch_file(url, path, checksum, **options)

    folder.mkdir(exist_ok=True)
    shard_cache.fetch_file = fetch


def run_on_records(workdir, url, cache_gb, *, parallel="pmap", at=None, late=None):
    """Trains on records with synchronised norm, this process on its share, and is scored on all of them."""
    source = open_data(url, "train", cache=CacheOptions(str(cache_folder(workdir)), cache_gb))

    def feed(start):
        options = {
            "batch_size": BATCH,
            "seed": 0,
            "num_steps": STEPS_ON_RECORDS,
            "start_step": start,
            "num_threads": 0,
        }
        for step, batch in enumerate(train_batches(source, CLIP, **options, **own_share()), start):
            if at and step in at:
                at[step]()
            yield batch

    return train(
        Toy(len(source.classes), norm_axis="batch"),
        feed,
        workdir=workdir,
        options=TrainOptions(STEPS_ON_RECORDS, BATCH, parallel=parallel, log_every=1, checkpoint_every=3),
        optimizer=SGD,
        loss=loss,
        batch_shapes=shapes(),
        config={},
        evaluators=[Evaluator("eval", partial(evaluate_on, source, late=late))],
    )


def fill_disk(saved):
    """From when ``saved`` is there, no file can grow beyond 1000 bytes."""
    while not saved.exists():
        time.sleep(0.01)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))


def unreadable():
    raise RecordError("a video does not read")


def die_in_save(step):
    """When the finished checkpoint of ``step`` is to get its name."""
    rename = os.rename

    def rename_or_die(source, target, **options):
        if Path(target).name == step:
            os.kill(os.getpid(), signal.SIGKILL)
        rename(source, target, **options)

    os.rename = rename_or_die


def main(
    workdir,
    die=None,
    stop=None,
    bad=None,
    full=None,
    torn=None,
    records=None,
    cache=None,
    late=None,
    join=None,
    parallel="pmap",
):
    """The script."""
    signals = {die: signal.SIGKILL, stop: signal.SIGTERM}
    events = {int(step): partial(os.kill, os.getpid(), number) for step, number in signals.items() if step}
    if bad:
        events[int(bad)] = unreadable
    if full:
        events[int(full)] = partial(fill_disk, Path(workdir) / "checkpoints" / "3")
        return run(workdir, at=events, log_every=1)
    if torn:
        die_in_save(torn)
    if join is not None:
        coordinator, *numbers = join.split(",")
        connect(coordinator or None, *map(int, numbers))
    if records:
        list_fetches(cache_folder(workdir))
        return run_on_records(workdir, records, float(cache), parallel=parallel, at=events, late=late)
    return run(workdir, at=events)


def script(workdir, *options):
    """The exit status of a run by its words."""
    result = main(workdir, **dict(word.split("=", 1) for word in options))
    return 128 + result.signal if result.signal else 0


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s", force=True)
    logging.getLogger("absl").setLevel(logging.WARNING)
    sys.exit(status_of("toy", lambda: script(*sys.argv[1:])))

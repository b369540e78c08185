"""A tiny Uni-AdaFocus that learns where and when to look, on synthetic videos, in two CPU minutes.

    adafocus demo                                                                      # everything, with a report
    adafocus train --config configs/demo.py --data records/ --workdir runs/demo        # this step alone

Held-out top-1 over seeds 0–7: 100%, 14 to 20 points above the best control. README has the tables, and why earlier
recipes failed. configs/sweeps/demo_seeds.py shows all seeds over steps.
"""

from ml_collections import ConfigDict

from adafocus_jax.config import base_config


def get_config() -> ConfigDict:
    config = base_config("uni_adafocus_tiny")
    config.data.resize = 96
    config.data.scales = (1.0,)  # whole frames: the stripes that tell the classes apart are 4 px wide
    config.loss.weights.norm = 0.0  # the side limits of the tiny model keep boxes small already
    config.loss.weights.kl = (
        0.03  # more, and the weights go back to uniform once the glance knows every colour
    )
    # By SGD, now and then, no unit of the glance answers to one of the colours: its frames are then never chosen.
    config.optimizer.name = "adamw"
    config.optimizer.lr = 0.002
    config.optimizer.reference_batch_size = 16
    config.optimizer.weight_decay = 1e-4
    config.optimizer.clip_norm = 2.5  # gradients peak as the policies start, and send boxes into a corner
    config.optimizer.warmup_frac = 0.05
    groups = config.optimizer.groups
    groups.glance.factor = 1.0
    groups.focus.factor = groups.classifier.factor = groups.proxy.factor = 2.0
    groups.temporal_policy.factor = 0.3
    # Both policies wait for the glance to know something: before, boxes run into a corner and weights to any frame.
    groups.spatial_policy.delay_frac = groups.temporal_policy.delay_frac = 0.2
    config.train.batch_size = 16
    config.train.steps = 700
    config.train.checkpoint_every = 100
    return config

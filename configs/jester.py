"""Jester (27 classes of hand gestures): Uni-AdaFocus on shifted encoders, by the authors' recipe.

    adafocus prepare jester --videos DIR --annotations DIR records/
    adafocus convert mobilenet_v2.pth glance/ --model uni_adafocus_tsm --num-classes 27 --part global_encoder
    adafocus convert resnet50.pth start/ --base glance/ --part local_encoder
    adafocus train --config configs/jester.py --data records/ --workdir runs/jester --init-from start/
    adafocus evaluate --checkpoint runs/jester

Both encoders start from ImageNet; left and right have meaning, so nothing is flipped. Variants (patch side, focus
frames; without any it is p128,f12) and what the authors report, in top-1 %; not reproduced here:

    variant    G multiply-adds   top-1
    p96,f8     8.8
    p96,f12    11.8
    p128,f12   18.8              97.1
    p128,f16   24.2
"""

from ml_collections import ConfigDict

from adafocus_jax.config import base_config


def get_config(variant: str = "") -> ConfigDict:
    config = base_config("uni_adafocus_tsm", variant, dataset="jester")
    config.loss.weights.norm = 0.25
    return config

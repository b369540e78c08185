"""Kinetics-400 (400 classes): Uni-AdaFocus on X3D-S and X3D-L, by the authors' recipe.

    adafocus prepare kinetics400 --videos DIR --annotations DIR records/
    adafocus convert x3d_s.pyth glance/ --model uni_adafocus_x3d --num-classes 400 --part global_encoder
    adafocus convert x3d_l.pyth start/ --base glance/ --part local_encoder
    adafocus train --config configs/kinetics400.py --data records/ --workdir runs/kinetics400 --init-from start/
    adafocus evaluate --checkpoint runs/kinetics400 --early-exit --crops 3

Both encoders start from SlowFast's checkpoints, which are trained on Kinetics-400. What the authors report, in top-1 %,
with one crop and with three (``--crops 3``, at three times the cost); not reproduced here:

    crops   G multiply-adds   top-1   with early exit
    1       8.8               75.3    75.0 @ 4.9
    3       8.8 x 3           76.6    76.2 @ 4.9 x 3
"""

from ml_collections import ConfigDict

from adafocus_jax.config import base_config


def get_config() -> ConfigDict:
    config = base_config("uni_adafocus_x3d", dataset="kinetics400")
    return config

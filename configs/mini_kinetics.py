"""Mini-Kinetics (200 classes of Kinetics-400): Uni-AdaFocus with an exit after every frame, by the authors' recipe.

    adafocus prepare mini_kinetics --videos DIR --annotations DIR records/
    adafocus convert mobilenet_v2.pth glance/ --model uni_adafocus --num-classes 200 --part global_encoder
    adafocus convert resnet50.pth start/ --base glance/ --part local_encoder
    adafocus train --config configs/mini_kinetics.py --data records/ --workdir runs/mini_kinetics --init-from start/
    adafocus evaluate --checkpoint runs/mini_kinetics --early-exit

Both encoders start from ImageNet. Variants (patch side; without any it is p128) and what the authors report, in top-1 %
without and with early exit; not reproduced here:

    variant   G multiply-adds   top-1   with early exit
    p128      27.2              75.8    75.7 @ 18.1, 74.3 @ 9.1
    p96       17.9
    p160      39.2
    p192      53.9
"""

from ml_collections import ConfigDict

from adafocus_jax.config import base_config


def get_config(variant: str = "") -> ConfigDict:
    config = base_config("uni_adafocus", variant, dataset="mini_kinetics")
    config.model.head_dropout = 0.1
    config.loss.weights.norm = 0.75
    config.optimizer.lr = 0.003
    config.optimizer.reference_batch_size = config.train.batch_size = 48
    config.optimizer.weight_decay = 1e-4
    return config

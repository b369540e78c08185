"""FCVID (239 classes): Uni-AdaFocus with an exit after every frame, by the authors' recipe.

    adafocus prepare fcvid --videos DIR --annotations DIR records/
    adafocus convert mobilenet_v2.pth glance/ --model uni_adafocus --num-classes 239 --part global_encoder
    adafocus convert resnet50.pth start/ --base glance/ --part local_encoder
    adafocus train --config configs/fcvid.py --data records/ --workdir runs/fcvid --init-from start/
    adafocus evaluate --checkpoint runs/fcvid --early-exit --metric mAP

Both encoders start from ImageNet. Variants (patch side; without any it is p128) and what the authors report, in mAP %
without and with early exit; not reproduced here:

    variant   G multiply-adds   mAP    with early exit
    p128      27.2              86.4   86.2 @ 18.1, 85.4 @ 9.1
    p96       17.9
    p160      39.2
    p192      53.9
"""

from ml_collections import ConfigDict

from adafocus_jax.config import base_config


def get_config(variant: str = "") -> ConfigDict:
    config = base_config("uni_adafocus", variant, dataset="fcvid")
    config.optimizer.lr = 0.004
    config.optimizer.reference_batch_size = config.train.batch_size = 64
    config.optimizer.weight_decay = 1e-4
    return config

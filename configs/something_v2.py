"""Something-Something V2 (174 classes): Uni-AdaFocus on shifted encoders, by the authors' recipe.

    adafocus prepare something_v2 --videos DIR --annotations DIR records/
    adafocus convert mobilenet_v2.pth glance/ --model uni_adafocus_tsm --num-classes 174 --part global_encoder
    adafocus convert resnet50.pth start/ --base glance/ --part local_encoder
    adafocus train --config configs/something_v2.py --data records/ --workdir runs/something_v2 --init-from start/
    adafocus evaluate --checkpoint runs/something_v2 --early-exit

Both encoders start from ImageNet; left and right have meaning, so nothing is flipped. Variants (patch side, focus
frames; without any it is p128,f12) and what the authors report, in top-1 %; not reproduced here:

    variant    G multiply-adds   top-1
    p96,f8     8.8               60.8
    p96,f12    11.8              62.6
    p128,f12   18.8              63.2
    p128,f16   24.2              64.2

With early exit, at the mean cost in G multiply-adds: 62.5 @ 8.8, 64.2 @ 18.8.
"""

from ml_collections import ConfigDict

from adafocus_jax.config import base_config


def get_config(variant: str = "") -> ConfigDict:
    config = base_config("uni_adafocus_tsm", variant, dataset="something_v2")
    config.optimizer.weight_decay = 5e-4
    return config

"""Something-Something V1 (174 classes): Uni-AdaFocus on shifted encoders, by the authors' recipe.

    adafocus prepare something_v1 --videos DIR --annotations DIR records/
    adafocus convert mobilenet_v2.pth glance/ --model uni_adafocus_tsm --num-classes 174 --part global_encoder
    adafocus convert resnet50.pth start/ --base glance/ --part local_encoder
    adafocus train --config configs/something_v1.py --data records/ --workdir runs/something_v1 --init-from start/
    adafocus evaluate --checkpoint runs/something_v1 --early-exit

Both encoders start from ImageNet; left and right have meaning, so nothing is flipped. Variants (patch side, focus
frames; without any it is p128,f12) and what the authors report, in top-1 %; not reproduced here:

    variant    G multiply-adds   top-1
    p96,f8     8.8               47.5
    p96,f12    11.8              49.5
    p128,f12   18.8              50.5
    p128,f16   24.2              51.5

With early exit, at the mean cost in G multiply-adds: 48.9 @ 8.8, 51.0 @ 18.8.
"""

from ml_collections import ConfigDict

from adafocus_jax.config import base_config


def get_config(variant: str = "") -> ConfigDict:
    config = base_config("uni_adafocus_tsm", variant, dataset="something_v1")
    return config

"""Diving48 (48 classes of competitive dives): Uni-AdaFocus on shifted encoders. Our recipe; no reported accuracy.

    adafocus prepare diving48 --videos DIR --annotations DIR records/
    adafocus convert mobilenet_v2.pth glance/ --model uni_adafocus_tsm --num-classes 48 --part global_encoder
    adafocus convert resnet50.pth start/ --base glance/ --part local_encoder
    adafocus train --config configs/diving48.py --data records/ --workdir runs/diving48 --init-from start/

Scenes tell nothing about a dive, its somersaults and twists do: hence shifted encoders, which see motion, and 16 focus
frames, as somersaults follow one another fast. The rest is the recipe of Something-Something V1 but for two things.
Clips are flipped: a class names take-off, somersaults, twists and position, none of them left or right. Training crops
keep at least three quarters of the short side, as the diver falls through the whole height of the picture.
"""

from ml_collections import ConfigDict

from adafocus_jax.config import base_config


def get_config() -> ConfigDict:
    config = base_config("uni_adafocus_tsm", dataset="diving48")
    config.model.num_focus = 16
    config.data.scales = (1.0, 0.875, 0.75)
    return config

"""Violence in short clips (RLVS, 2 classes): Uni-AdaFocus on shifted encoders. Our recipe; no reported accuracy.

    adafocus prepare violence --videos DIR --annotations DIR records/
    adafocus convert mobilenet_v2.pth glance/ --model uni_adafocus_tsm --num-classes 2 --part global_encoder
    adafocus convert resnet50.pth start/ --base glance/ --part local_encoder
    adafocus train --config configs/violence.py --data records/ --workdir runs/violence --init-from start/
    adafocus evaluate --checkpoint runs/violence --early-exit

It claims no accuracy. A fight is told by motion, hence the shifted encoders; two classes need the smallest variant only
(8.8 G multiply-adds). The data are 2,000 clips: batches of 16, so that 50 epochs are some 5,000 steps. Clips are
flipped, as sides mean nothing here. The rest is the recipe of Something-Something V1.
"""

from ml_collections import ConfigDict

from adafocus_jax.config import base_config


def get_config() -> ConfigDict:
    config = base_config("uni_adafocus_tsm", dataset="violence")
    config.model.update(patch_size=96, num_focus=8)
    config.train.batch_size = 16
    return config

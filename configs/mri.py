"""Diagnosis from brain MRI, a volume as a sequence of slices: Uni-AdaFocus. Our recipe; no reported accuracy.

    adafocus prepare mri --videos DIR --annotations DIR records/
    adafocus convert mobilenet_v2.pth glance/ --model uni_adafocus --set num_focus=8 --num-classes 3 \\
        --part global_encoder
    adafocus convert resnet50.pth start/ --base glance/ --part local_encoder
    adafocus train --config configs/mri.py --data records/ --workdir runs/mri --init-from start/
    adafocus evaluate --checkpoint runs/mri --metric mAP --early-exit

(Say how many diagnoses your data have in place of the 3.) Slices have no motion, so encoders see each for itself; few
of them show what a diagnosis rests on, so only 8 of the 48 candidates get a closer look. Studies are small: more
dropout and weight decay than on ActivityNet, batches of 16. Scans are aligned: crops keep at least 7/8 of the slice,
and nothing is flipped, as a change on one side is a finding. Diagnoses are unbalanced, so mAP chooses the checkpoint.
"""

from ml_collections import ConfigDict

from adafocus_jax.config import base_config


def get_config() -> ConfigDict:
    config = base_config("uni_adafocus", dataset="mri")
    config.model.update(num_focus=8, dropout=0.5, head_dropout=0.5)
    config.data.scales = (1.0, 0.875)
    config.optimizer.weight_decay = 1e-3
    config.train.batch_size = 16
    return config

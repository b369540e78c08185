"""Your own videos (short side 256 or more), trained from scratch.

    adafocus train --config configs/custom.py --data records/ --workdir runs/mine
    adafocus train --config configs/custom.py:tiny --data records/ --workdir runs/tiny      # for a CPU, 96 px frames

The published recipe for ActivityNet, with a warm-up and a gradient clip for encoders that are not pretrained.
"""

from ml_collections import ConfigDict

from adafocus_jax.config import base_config, variant_options


def get_config(variant: str = "") -> ConfigDict:
    """``variant``: empty for the full model, ``tiny`` for the small one."""
    config = base_config(**variant_options(variant, {"model": {"tiny": "uni_adafocus_tiny"}}))
    config.optimizer.warmup_frac = 0.05
    config.optimizer.clip_norm = 20.0
    return config

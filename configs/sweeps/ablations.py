"""The paper's ablations: every row is trained so, not only tested so. With any base config of a policy model.

    adafocus sweep sweeps/policies --config configs/demo.py --data records/ \\
        --sweep configs/sweeps/ablations.py:spatial,temporal,seed                            # minutes
    adafocus sweep sweeps/anet --config configs/activitynet.py --data records/ \\
        --sweep configs/sweeps/ablations.py:spatial,temporal --objective mAP                 # full size
    adafocus sweep sweeps/exits --config configs/demo.py --data records/ --sweep configs/sweeps/ablations.py:seed \\
        --objective top1@0.5,top1@0.5:entropy                                                # exit criteria
"""

from ml_collections import ConfigDict


def sweep_spatial():
    for mode in ("learned", "centre", "random", "gaussian"):
        yield {"model.spatial": mode}


def sweep_temporal():
    for mode in ("learned", "uniform", "random"):
        yield {"model.temporal": mode}


def sweep_patch(config: ConfigDict):
    """Patch side × focus frames, around those of the config."""
    for side in (0.75, 1.0, 1.25):
        for frames in (0.5, 1.0):
            patch = {"model.patch_size": round(side * config.model.patch_size)}
            yield {**patch, "model.num_focus": max(1, round(frames * config.model.num_focus))}


def sweep_temporal_estimator():
    for estimator in ("exact", "monte_carlo"):
        yield {"model.temporal_estimator": estimator}
    for gradient in ("gate", "pixels"):
        yield {"model.temporal_estimator": "straight_through", "model.straight_through": gradient}


def sweep_spatial_estimator():
    for estimator in ("proxy", "interpolation"):
        yield {"model.spatial_estimator": estimator}


def sweep_norm_ratio():
    for ratio in (0.0, 0.25, 0.5, 1.0):
        yield {"loss.weights.norm": ratio}


def sweep_random_pass():
    """The second pass of training, through random boxes."""
    for used in (True, False):
        yield {"model.random_pass": used}


def sweep_reuse():
    """Whether focus exits read the glance features too (``uni_adafocus``)."""
    for used in (True, False):
        yield {"model.reuse_glance": used}


def sweep_seed():
    for seed in range(3):
        yield {"seed": seed}

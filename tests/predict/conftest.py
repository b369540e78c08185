"""A run of a tiny model, and the same few videos as files, folders of frames, a volume and arrays."""

from pathlib import Path

import cv2
import jax
import numpy as np
import pytest

from adafocus_jax.checkpoint import Checkpoints
from adafocus_jax.config import base_config, check_config, for_classes, make_model
from adafocus_jax.data.media.video import read_video
from adafocus_jax.early_exit import ExitPolicy
from adafocus_jax.engine import Engine
from adafocus_jax.evaluate.exits import store_policies
from adafocus_jax.models import init_variables
from adafocus_jax.visualize.files import write_mp4

CLASSES = ("kick", "run [fast]", "walk")
SIZES = {
    "num_glance": 4,
    "num_candidates": 8,
    "num_focus": 2,
    "image_size": 32,
    "glance_size": 16,
    "patch_size": 16,
    "policy_hidden": 4,
    "temporal_hidden": 4,
}


@pytest.fixture(scope="session", autouse=True)
def _one_engine():
    """Predictors of equal models share one small engine, on two of the simulated devices: compiling takes the time."""
    engines = {}

    def shared(model, variables, *, policy, **_):
        if model not in engines:
            buckets = {"glance": (2,), "choose": (2,), "look": (2,)}
            sizes = {"max_in_flight": 4, "pixel_threads": 2, "buckets": buckets}
            engines[model] = Engine(model, variables, devices=jax.devices()[:2], **sizes)
        engines[model].policy = policy
        engines[model].reset_stats()
        return engines[model]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("adafocus_jax.predict.predictor.Engine", shared)
        yield


def save_run(workdir: Path, name: str = "uni_adafocus_tiny", **sizes: int) -> Path:
    """A workdir with a checkpoint of fresh variables at step 0."""
    config = base_config(name)
    config.model.update(sizes)
    settings = for_classes(check_config(config), CLASSES)
    variables = init_variables(make_model(settings), jax.random.key(0))
    with Checkpoints(workdir / "checkpoints", settings) as checkpoints:
        checkpoints.save(0, {"step": np.zeros((), np.int32), **jax.tree.map(np.asarray, variables)})
    return workdir


@pytest.fixture(scope="session")
def run(tmp_path_factory) -> Path:
    """Six exits (two of them before the end of the glance); thresholds that let everyone leave at a given place."""
    workdir = save_run(tmp_path_factory.mktemp("run"), **SIZES, classifier_hidden=8)
    always, never = -1e8, 1e8
    policies = [
        ExitPolicy("confidence", (always, never, always), 0.1, "train", 9, 0.3),
        ExitPolicy("confidence", (never, always, always), 0.5, "train", 9, 0.7),
    ]
    store_policies(workdir / "checkpoints", policies)
    return workdir


def moving_square(seed: int, num_frames: int = 20, height: int = 48, width: int = 64) -> np.ndarray:
    """``uint8 [T, H, W, 3]``."""
    rng = np.random.default_rng(seed)
    colour, y, x = rng.integers(60, 256, 3), rng.integers(height - 16), rng.integers(width - 40)
    frames = np.full((num_frames, height, width, 3), 20 * seed, np.uint8)
    for t, frame in enumerate(frames):
        frame[y : y + 12, x + t : x + t + 12] = colour
    return frames


@pytest.fixture(scope="session")
def videos(tmp_path_factory) -> Path:
    """``CLASS/N.mp4``, four of them."""
    folder = tmp_path_factory.mktemp("videos")
    for number, label in enumerate(("kick", "run [fast]", "walk", "walk")):
        write_mp4(folder / label / f"{number}.mp4", moving_square(number), 10)
    return folder


@pytest.fixture(scope="session")
def one_of_each(tmp_path_factory, videos) -> list:
    """The same video as a file, a folder of PNG frames, and an array; and a volume."""
    import nibabel

    folder = tmp_path_factory.mktemp("kinds")
    path = videos / "kick" / "0.mp4"
    frames = read_video(path).frames
    (folder / "frames").mkdir()
    for number, frame in enumerate(frames, 1):
        cv2.imwrite(str(folder / "frames" / f"{number:05}.png"), frame[..., ::-1])
    volume = np.random.default_rng(0).random((12, 20, 10)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), folder / "brain.nii.gz")
    return [path, folder / "frames", frames, folder / "brain.nii.gz"]

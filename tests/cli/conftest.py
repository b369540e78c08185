"""Records of a few made videos."""

from pathlib import Path

import pytest

from adafocus_jax.cli.main import run_command
from adafocus_jax.demo.videos import write_videos


@pytest.fixture(scope="session")
def records(tmp_path_factory) -> Path:
    """10 videos of 48 × 48 to train on, and 10 held out."""
    out = tmp_path_factory.mktemp("made")
    write_videos(out / "videos", num_train=10, num_test=10, workers=1, progress=False)
    videos = out / "videos"
    prepare = ["prepare", str(videos / "train"), str(out / "records"), "--val-src", str(videos / "test")]
    run_command([*prepare, "--size", "48", "--fps", "0", "--workers", "0"])
    return out / "records"

"""Real little videos and the records made of them."""

import importlib.util
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import av
import numpy as np
import pytest
import simplejpeg

from adafocus_jax.data.prepare.prepare import prepare

WriteVideo = Callable[..., Path]

CLASSES = ("jump", "run", "walk")


@pytest.fixture(scope="session")
def film() -> ModuleType:
    """``film.py`` as a module; tests are imported without packages, so it has no name to import it by."""
    name = "adafocus_film"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name("film.py"))
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def _write_video(
    path: Path,
    num_frames: int = 12,
    height: int = 24,
    width: int = 32,
    fps: int = 12,
    codec: str = "libx264",
    red_corner: bool = False,
    gop: int | None = None,
    **options: str,
) -> Path:
    """A grey video, a key frame every ``gop``. Frame i has level 10 + 8 i; ``red_corner`` paints a quarter."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        if gop is not None:
            stream.codec_context.gop_size = gop
        for number in range(num_frames):
            pixels = np.full((height, width, 3), (10 + 8 * number) % 256, np.uint8)
            if red_corner:
                pixels[: height // 2, : width // 2] = (255, 0, 0)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="session")
def write_video() -> WriteVideo:
    return _write_video


@pytest.fixture
def rotated_video(tmp_path: Path) -> Path:
    """A 32×24 video whose metadata turn it by 90° clockwise, as phones do."""
    upright = _write_video(tmp_path / "upright.mp4", red_corner=True).read_bytes()
    identity = struct.pack(">9i", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
    turned = struct.pack(">9i", 0, 0x10000, 0, -0x10000, 0, 0, 24 << 16, 0, 0x40000000)
    place = upright.index(identity, upright.index(b"tkhd"))
    path = tmp_path / "turned.mp4"
    path.write_bytes(upright[:place] + turned + upright[place + len(turned) :])
    return path


@pytest.fixture(scope="session")
def video_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of 4, 5 and 6 videos, of several lengths, among them portrait ones."""
    root = tmp_path_factory.mktemp("videos")
    for label, name in enumerate(CLASSES):
        for number in range(4 + label):
            height, width = ((24, 32), (32, 24), (24, 24))[number % 3]
            _write_video(root / name / f"{number}.mp4", 5 + 3 * number, height, width)
    return root


@pytest.fixture(scope="session")
def jester(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Jester in its official form, of 6 + 2 videos, one of which is not there: ``videos`` and ``lists``."""
    root = tmp_path_factory.mktemp("jester")
    (root / "lists").mkdir()
    labels = [f"Gesture {number:02d}" for number in range(27)]
    (root / "lists" / "jester-v1-labels.csv").write_text("\n".join(labels))
    rows = [f"{100 + number};{labels[number % 2]}" for number in range(8)]
    (root / "lists" / "jester-v1-train.csv").write_text("\n".join(rows[:6]))
    (root / "lists" / "jester-v1-validation.csv").write_text("\n".join(rows[6:]))
    for number in range(7):
        (root / "videos" / str(100 + number)).mkdir(parents=True)
        for frame in range(4 + number):
            image = np.full((10, 16, 3), 8 * frame, np.uint8)
            path = root / "videos" / str(100 + number) / f"{frame + 1:05d}.jpg"
            path.write_bytes(simplejpeg.encode_jpeg(image))
    return root


@pytest.fixture(scope="session")
def records(video_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records of :func:`video_folder`: 11 for training and 4 for validation, in 3 shards each."""
    out = tmp_path_factory.mktemp("records")
    prepare(video_folder, out, size=20, fps=None, val_fraction=0.25, workers=0, shards=3)
    return out

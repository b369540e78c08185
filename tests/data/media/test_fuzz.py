"""No file makes a reader hang, crash, take much memory, or raise anything but a reason in words."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

FUZZ = Path(__file__).with_name("fuzz.py")
MAX_BYTES = 2**29
"""Of a process that reads what strangers send, with ``ReadLimits.strict``; 100 MB are Python, NumPy and OpenCV."""

CONTAINERS = {
    ".mp4": "libx264",
    ".webm": "libvpx-vp9",
    ".avi": "mpeg4",
    ".ts": "mpeg2video",
    ".wmv": "wmv2",
    ".gif": "gif",
}


@pytest.fixture(scope="module")
def six_files(tmp_path_factory, film) -> list[Path]:
    root = tmp_path_factory.mktemp("films")
    return [
        film.write(
            root / f"film{suffix}",
            [number / 25 for number in range(12)],
            0.04,
            codec=codec,
            pixels="rgb8" if codec == "gif" else "yuv420p",
        )
        for suffix, codec in CONTAINERS.items()
    ]


def fuzz(files: list[Path], seed: int, count: int) -> dict:
    words = [sys.executable, str(FUZZ), str(seed), str(count), *map(str, files)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, f"exit {done.returncode}: {done.stderr[-2000:]}"
    return json.loads(done.stdout)


def check(found: dict, count: int) -> None:
    outcomes = found["outcomes"]
    assert sum(outcomes.values()) == count
    assert 0.1 * count < outcomes["read"] < 0.9 * count, outcomes
    assert found["peak_bytes"] < MAX_BYTES, found


def test_sixty_mutated_files(six_files):
    check(fuzz(six_files, 0, 60), 60)


def test_two_thousand_mutated_files(six_files):
    check(fuzz(six_files, 1, 2000), 2000)

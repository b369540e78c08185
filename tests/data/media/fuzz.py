"""Reads mutated videos: ``python fuzz.py SEED COUNT FILE...`` prints what became of them as JSON.

A process of its own, since what it looks for are ends of the process: crashes, hangs, memory.
"""

import contextlib
import json
import re
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

from adafocus_jax.data.media.frames import DecodeError
from adafocus_jax.data.media.limits import ReadLimits
from adafocus_jax.data.media.sparse_video import UnusualVideoError, iter_sparse
from adafocus_jax.data.media.video import iter_frames, read_chosen

HANG_SEC = 20


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """One to eight mutations: bytes changed, cut out, copied, or set to what lengths overflow at; the end cut off."""
    content = bytearray(data)
    for _ in range(rng.integers(1, 9)):
        at = int(rng.integers(len(content)) if rng.random() < 0.5 else rng.integers(min(len(content), 600)))
        size = int(min(rng.choice([1, 1, 2, 4, 8, 64, 512]), len(content) - at))
        match rng.integers(6):
            case 0:
                content[at : at + size] = rng.bytes(size)
            case 1:
                content[at] ^= 1 << int(rng.integers(8))
            case 2:
                content[at : at + size] = bytes([rng.choice([0, 0x7F, 0x80, 0xFF])]) * size
            case 3 if len(content) > size + 16:
                del content[at : at + size]
            case 4:
                content[at:at] = content[int(rng.integers(len(content))) :][:size]
            case 5 if rng.random() < 0.3:
                del content[max(16, int(rng.integers(len(content)))) :]
    return bytes(content)


def outcome(path: Path) -> str:
    """What reading the file in every way ends in; anything but a ``DecodeError`` is raised."""
    limits = ReadLimits.strict()
    try:
        for _ in iter_frames(path, short_side=32, limits=limits):
            pass
        read_chosen(path, lambda total: sorted({0, total // 2, total - 1}), short_side=32, limits=limits)
        list(iter_frames(path, short_side=32, segment=(0.1, 0.2), limits=limits))
    except DecodeError as error:
        return " ".join(str(error).split()[:3])
    with contextlib.suppress(DecodeError, UnusualVideoError):
        list(iter_sparse(str(path), lambda total: range(0, total, 2), short_side=32, limits=limits))
    return "read"


def main(seed: int, count: int, *files: str) -> None:
    """Mutates the files in turn."""
    rng, outcomes, slowest = np.random.default_rng(seed), Counter(), 0.0
    with tempfile.TemporaryDirectory() as folder:
        for number in range(count):
            source = Path(files[number % len(files)])
            path = Path(folder, f"video{source.suffix}")
            path.write_bytes(mutated(source.read_bytes(), rng))
            signal.alarm(HANG_SEC)  # ends the process
            start = time.monotonic()
            outcomes[outcome(path)] += 1
            slowest = max(slowest, time.monotonic() - start)
            signal.alarm(0)
    # Not ru_maxrss, which counts what the parent had when it forked.
    peak = int(re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024
    json.dump({"outcomes": outcomes, "slowest_sec": slowest, "peak_bytes": peak}, sys.stdout)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])

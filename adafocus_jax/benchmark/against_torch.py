"""One video through our engine and through the authors' model in PyTorch, in turn, each in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np

from adafocus_jax.allocator import OFF, keep_freed_memory
from adafocus_jax.engine.openvino_graph import is_installed
from adafocus_jax.errors import UserError
from adafocus_jax.watchdog import watched

RELEASE = Path("tests", "checkpoint", "torch_release")
"""The authors' model as the tests build it, in the checkout that the command is started in."""
KIND = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "1000000000000", "MALLOC_TOP_PAD_": "268435456"}
"""What makes glibc keep freed memory, in the environment: PyTorch's kindest setting."""


def benchmark_against_torch(
    videos: Sequence[int] = (1,),
    rounds: int = 5,
    backends: Sequence[tuple[str, str]] | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> list[dict[str, Any]]:
    """Times ``uni_adafocus`` of the published sizes, without early exit, same weights and inputs everywhere.

    The authors' model computes the logits of all exits on its way; ours those of the last alone (``every_exit=False``).

    Args:
      videos: how many are predicted together.
      rounds: every process predicts once in each; they take turns, so that all meet the same disturbances.
      backends: (backend, precision) of ours; None: XLA, and OpenVINO in both precisions where it is installed.
      progress: told what is measured.

    Returns:
      Rows of ``what``, ``videos``, ``seconds`` (the median), ``error`` (of the last exit's logits against the eager
      model, relative to the largest) and ``times_eager``, ``times_channels_last`` (how many times as fast as those at
      their kinder setting of malloc).

    Raises:
      UserError: no PyTorch, or not started in a checkout of this repository.
    """
    if find_spec("torch") is None:
        raise UserError("the comparison needs PyTorch: pip install 'adafocus_jax[torch]'")
    if not RELEASE.is_dir():
        raise UserError(f"the authors' model is in {RELEASE}: start this in a checkout of the repository")
    if backends is None:
        backends = [("xla", "float32")]
        backends += [("openvino", "float32"), ("openvino", "bfloat16")] if is_installed() else []
    plain = {key: value for key, value in os.environ.items() if key not in KIND}
    cases = {
        f"authors' {form}, {malloc} malloc": (["torch", form], plain | given)
        for form in ("eager", "channels-last")
        for malloc, given in (("default", {}), ("kind", KIND))
    }
    cases |= {f"ours, {b} {p}": (["ours", b, p], {**plain, OFF: ""}) for b, p in backends}
    processes: dict[str, subprocess.Popen[str]] = {}
    try:
        for what, (words, environment) in cases.items():
            progress(f"starting {what}")
            processes[what] = subprocess.Popen(
                [sys.executable, "-m", __name__, *words, *map(str, videos)],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            _answer(processes[what], what)  # one after another: compiling takes all cores
        rows = []
        for count in videos:
            seconds: dict[str, list[float]] = {what: [] for what in cases}
            logits = {}
            for number in range(rounds + 1):
                progress(f"{count} videos, round {number} of {rounds}")
                for what, process in processes.items():
                    answer = _answer(process, what, count)
                    logits[what] = np.array(answer["logits"])
                    seconds[what] += [answer["seconds"]] if number else []  # the first warms up
            rows += _rows(count, seconds, logits)
        return rows
    finally:
        for process in processes.values():
            process.kill()
            process.communicate()


def _answer(process: Any, what: str, count: int = 0) -> dict[str, Any]:
    """Asks for ``count`` videos; 0: waits until the process is ready."""
    with contextlib.suppress(BrokenPipeError):  # no answer comes then either
        if count:
            process.stdin.write(f"{count}\n")
            process.stdin.flush()
    with watched(f"{what} to {f'predict {count} videos' if count else 'start'}"):
        line = process.stdout.readline()
    if not line:
        raise UserError(f"{what} ended with status {process.wait()}: see what it wrote above")
    return dict(json.loads(line))


def _rows(count: int, seconds: dict[str, list[float]], logits: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    median = {what: statistics.median(values) for what, values in seconds.items()}
    kinder = {
        form: min(value for what, value in median.items() if what.startswith(f"authors' {form}"))
        for form in ("eager", "channels-last")
    }
    expected = next(iter(logits.values()))
    return [
        {
            "what": what,
            "videos": count,
            "seconds": value,
            "error": float(np.abs(logits[what] - expected).max() / np.abs(expected).max()),
            "times_eager": kinder["eager"] / value,
            "times_channels_last": kinder["channels-last"] / value,
        }
        for what, value in median.items()
    ]


def _serve(predict: Callable[[int], np.ndarray], counts: Sequence[int]) -> None:
    """Answers each number on standard input with the logits of so many videos and the seconds that they took."""
    for count in counts:
        predict(count)
    print(json.dumps({}), flush=True)
    for line in sys.stdin:
        began = time.perf_counter()
        logits = predict(int(line))
        seconds = time.perf_counter() - began
        print(json.dumps({"seconds": seconds, "logits": np.asarray(logits).tolist()}), flush=True)


def _release() -> tuple[Any, Any]:
    """The authors' package, and their model with random weights that are the same in every process."""
    import torch

    spec = spec_from_file_location(RELEASE.name, RELEASE / "__init__.py")
    assert spec is not None
    assert spec.loader is not None
    sys.modules[RELEASE.name] = release = module_from_spec(spec)
    spec.loader.exec_module(release)
    torch.manual_seed(0)
    encoders = release.MobileNetV2(classifier=True), release.ResNet(classifier=True)
    return release, release.PooledExits(release.Sizes(16, 48, 16, 200), *encoders).eval()


def _clips(count: int) -> np.ndarray:
    coarse = np.random.default_rng(0).integers(0, 256, (count, 48, 14, 14, 3), dtype=np.uint8)
    return coarse.repeat(16, axis=2).repeat(16, axis=3)


def _torch(form: str, counts: Sequence[int]) -> None:
    import torch

    from adafocus_jax.ops.normalize import MEAN, STD

    _, model = _release()
    if form == "channels-last":
        for parameter in model.parameters():
            if parameter.ndim == 4:
                parameter.data = parameter.data.to(memory_format=torch.channels_last)
    inputs = {}
    for count in counts:
        x = torch.from_numpy((_clips(count) / np.float32(255) - MEAN) / STD).permute(0, 1, 4, 2, 3)
        inputs[count] = x if form == "channels-last" else x.contiguous()

    @torch.inference_mode()
    def predict(count: int) -> np.ndarray:
        return np.asarray(model(inputs[count], None).exit_logits[0][:, -1])

    _serve(predict, counts)


def _ours(backend: str, precision: str, counts: Sequence[int]) -> None:
    keep_freed_memory()
    import jax

    from adafocus_jax.checkpoint import convert_state_dict
    from adafocus_jax.engine import Engine, Request
    from adafocus_jax.models import create_model

    model = create_model("uni_adafocus", num_classes=200)
    state = {name: tensor.detach().numpy() for name, tensor in _release()[1].state_dict().items()}
    variables = convert_state_dict(state, model)
    devices = jax.local_devices()[:1]
    engine = Engine(model, variables, backend=backend, precision=precision, devices=devices, every_exit=False)
    clips = _clips(max(counts))

    def predict(count: int) -> np.ndarray:
        requests = (Request(n, clip[model.glance_candidates], clip) for n, clip in enumerate(clips[:count]))
        results = {result.key: np.asarray(result.logits)[-1] for result in engine.run(requests)}
        return np.stack([results[number] for number in range(count)])

    _serve(predict, counts)


if __name__ == "__main__":
    kind, *words = sys.argv[1:]
    if kind == "torch":
        _torch(words[0], [int(word) for word in words[1:]])
    else:
        _ours(words[0], words[1], [int(word) for word in words[2:]])

import json

import numpy as np
import pytest

from adafocus_jax.cli.main import main
from adafocus_jax.visualize.files import write_mp4

TINY = ["--videos", "2", "--length", "8", "--frames", "4", "--size", "32", "--threads", "1"]
WAYS = {"records", "pillow", "tensors", "mp4", "decoder"}


def test_the_figures_fit_together(tmp_path, capsys):
    out = tmp_path / "figures.json"
    flags = [*TINY, "--steps-per-sec", "2", "--batch-size", "10", "--json", str(out)]
    assert main(["benchmark", "data", *flags]) == 0
    figures = json.loads(out.read_text())
    per_core = figures["examples_per_sec_per_core"]
    assert set(per_core) == set(figures["examples_per_sec"]) == WAYS
    assert figures["cores_needed"] == pytest.approx(20 / per_core["records"])
    assert figures["times_pillow_per_core"] == pytest.approx(per_core["records"] / per_core["pillow"])
    assert figures["times_decoder_per_core"] == pytest.approx(per_core["mp4"] / per_core["decoder"])
    assert figures["frames_per_sec_per_core"]["records"] == pytest.approx(4 * per_core["records"])
    assert set(figures["share_of_time"]) == {"read", "decode", "crop_resize_mirror", "batches"}
    assert all(share >= 0 for share in figures["share_of_time"].values())
    shown = capsys.readouterr().out
    assert "2 steps/s of 10 videos need" in shown
    assert "times as fast as the bare decoder" in shown


def test_records_of_ones_own_have_no_mp4_to_compare_with(tmp_path, capsys):
    for name in ("a", "b"):
        write_mp4(tmp_path / "videos" / "run" / f"{name}.mp4", np.zeros((8, 32, 48, 3), np.uint8), 10)
    assert main(["prepare", str(tmp_path / "videos"), str(tmp_path / "records"), "--workers", "0"]) == 0
    assert main(["benchmark", "data", *TINY, "--data", str(tmp_path / "records")]) == 0
    shown = capsys.readouterr().out
    assert "loose JPEG files, Pillow" in shown
    assert "mp4" not in shown


@pytest.mark.parametrize(
    ("flags", "message"),
    [(["--threads", "0"], "--threads 0 is not valid"), (["--data", "/nowhere"], "prepare")],
)
def test_what_cannot_be_measured(flags, message, capsys):
    assert main(["benchmark", "data", *flags]) == 2
    assert message in capsys.readouterr().err


def test_the_second_start_finds_compiled_programs(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("JAX_ENABLE_COMPILATION_CACHE", "true")
    (tmp_path / "small.py").write_text(
        "from adafocus_jax.config import base_config\n"
        "def get_config():\n"
        "    config = base_config('tsm_tiny')\n"
        "    config.model.update(image_size=24, num_candidates=2)\n"
        "    config.train.parallel, config.train.batch_size, config.train.peak_tflops = 'shard_map', 8, 2.0\n"
        "    return config\n"
    )
    out = tmp_path / "figures.json"
    flags = ["--config", str(tmp_path / "small.py"), "--steps", "2", "--config.model.num_classes=3"]
    assert main(["benchmark", "train", *flags, "--json", str(out)]) == 0
    figures = json.loads(out.read_text())
    assert (figures["devices"], figures["parallel"], figures["num_classes"]) == (4, "shard_map", 3)
    assert figures["second_to_first"] == figures["second_start_sec"] / figures["first_start_sec"]
    assert figures["cache_hits"] > 0
    assert figures["videos_per_sec"] == pytest.approx(8000 / figures["step_ms"])
    assert figures["flop_utilization"] == pytest.approx(figures["tflops"] / 2)
    assert figures["step_memory_gib"] > 0
    shown = capsys.readouterr().out
    assert "shard_map on 4 × cpu" in shown
    assert "second start" in shown


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--config", "nowhere.py"], "no such config file"),
        (["--config", "configs/demo.py", "--steps", "0"], "--steps 0 is not valid"),
    ],
)
def test_what_cannot_be_trained(flags, message, capsys):
    assert main(["benchmark", "train", *flags]) == 2
    assert message in capsys.readouterr().err

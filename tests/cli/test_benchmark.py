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
    assert "times the bare decoder" in shown


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


def test_the_benchmarks_are_listed(capsys):
    with pytest.raises(SystemExit):
        main(["benchmark", "--help"])
    assert "data" in capsys.readouterr().out

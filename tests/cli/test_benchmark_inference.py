"""``adafocus benchmark inference`` on a file, from the command line."""

import json

import numpy as np
import pytest

from adafocus_jax.cli.main import main
from adafocus_jax.visualize.files import write_mp4

ONE_EACH = ["--glance-buckets", "1", "--choose-buckets", "1", "--look-buckets", "1"]


def test_figures_of_videos_on_disk(tmp_path, capsys):
    write_mp4(tmp_path / "a.mp4", np.zeros((8, 96, 128, 3), np.uint8), 10)
    out = tmp_path / "figures.json"
    flags = ["--videos", str(tmp_path / "a.mp4"), "--in-flight", "2", "--budgets", "0.6", "--seconds", "0.1"]
    command = ["benchmark", "inference", "--config", "configs/demo.py", *flags, *ONE_EACH, "--json", str(out)]
    assert main(command) == 0
    figures = json.loads(out.read_text())
    without, budget = figures["runs"]
    assert (without["budget"], budget["budget"]) == ("none", "0.6")
    assert without["videos"] >= 4
    assert without["exit_shares"][-1] == 1
    assert budget["mean_gflops"] < without["mean_gflops"]
    assert figures["model"]["name"] == "uni_adafocus_tiny"
    shown = capsys.readouterr().out
    assert "uni_adafocus_tiny, float32" in shown
    assert "none" in shown


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--in-flight", "0"], "give 1 or more"),
        (["--seconds", "-1"], "seconds"),
        (["--budgets", "0.01"], "the first exit's"),
        (["--backend", "abacus"], "choose one of"),
    ],
)
def test_bad_flags_are_one_line(flags, message, capsys):
    try:
        status = main(["benchmark", "inference", "--config", "configs/demo.py", *flags])
    except SystemExit as left:
        status = left.code
    assert status == 2
    assert message in capsys.readouterr().err

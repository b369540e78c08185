"""``adafocus benchmark inference`` on a file, from the command line."""

import json
import sys

import numpy as np
import pytest

from adafocus_jax.benchmark import against_torch
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


PREDICTS = """#!{python}
import json, os, sys
what = " ".join(sys.argv[3:-1])
seconds, logit = {answers}[what + (" kind" if "MALLOC_MMAP_MAX_" in os.environ else "")]
print("{{}}", flush=True)
for number, line in enumerate(sys.stdin):
    assert line == "1\\n"
    print(json.dumps({{"seconds": 9 if number == 0 else seconds, "logits": [[1.0, logit]]}}), flush=True)
"""
ANSWERS = {
    "torch eager": (4.0, -2.0),
    "torch eager kind": (2.0, -2.0),
    "torch channels-last": (1.0, -2.0),
    "torch channels-last kind": (1.5, -2.0),
    "ours xla float32": (0.5, -1.98),
    "ours openvino float32": (0.25, -2.0),
    "ours openvino bfloat16": (0.125, -1.9),
}


@pytest.fixture
def predicting(tmp_path, monkeypatch):
    """Processes that answer as those of the comparison do, with given seconds and logits, in place of Python."""

    def start(answers):
        program = tmp_path / "python"
        program.write_text(PREDICTS.format(python=sys.executable, answers=answers))
        program.chmod(0o755)
        monkeypatch.setattr(against_torch.sys, "executable", str(program))

    monkeypatch.setattr(against_torch, "find_spec", lambda name: True)
    monkeypatch.setattr(against_torch, "is_installed", lambda: True)
    return start


def test_ours_stand_beside_the_authors_at_their_kinder_malloc(predicting, tmp_path, capsys):
    predicting(ANSWERS)
    out = tmp_path / "figures.json"
    assert main(["benchmark", "inference", "--against", "torch", "--json", str(out)]) == 0
    rows = {row["what"]: row for row in json.loads(out.read_text())["rows"]}
    assert len(rows) == 7
    found = [[rows[f"ours, {what}"][key] for key in ("times_eager", "times_channels_last", "error")]
             for what in ("xla float32", "openvino float32", "openvino bfloat16")]  # fmt: skip
    np.testing.assert_allclose(found, [[4, 2, 0.01], [8, 4, 0], [16, 8, 0.05]], atol=1e-9)
    lines = capsys.readouterr().out.splitlines()
    (line,) = (line for line in lines if "ours, xla float32" in line)
    assert line.replace("│", " ").split()[-5:] == ["1", "0.500", "4.00", "2.00", "1.0e-02"]


def test_a_process_of_the_comparison_that_ends_is_one_line(predicting, capsys):
    predicting(dict(list(ANSWERS.items())[:4]))  # ours does not start
    assert main(["benchmark", "inference", "--against", "torch"]) == 2
    assert "ours, xla float32 ended with status 1" in capsys.readouterr().err

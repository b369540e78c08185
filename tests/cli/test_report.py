"""``adafocus report`` on workdirs that are built by hand, with records and without."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from adafocus_jax.checkpoint import Checkpoints
from adafocus_jax.cli.main import main, run_command
from adafocus_jax.config import base_config, for_classes, make_model
from adafocus_jax.data.records.reader import open_records
from adafocus_jax.models import init_variables

SMALL = {
    "num_candidates": 4,
    "num_glance": 2,
    "num_focus": 1,
    "image_size": 48,
    "glance_size": 24,
    "patch_size": 16,
}


def save_run(workdir: Path, config: dict, step: int) -> None:
    """A checkpoint of zeros: nothing is compiled."""
    shapes = jax.eval_shape(lambda: init_variables(make_model(config), jax.random.key(0)))
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
    with Checkpoints(workdir / "checkpoints", config) as checkpoints:
        checkpoints.save(step, {"step": np.asarray(step, np.int32), **zeros})
        checkpoints.record(step, {"top1": 30.0}, score=30.0)


@pytest.mark.parametrize("kind", ["records", "videos"])
def test_a_run_with_its_data(kind, records, tmp_path, capsys):
    config = base_config("uni_adafocus_tiny")
    config.model.update(SMALL)
    config.data.update({"dir": str(records.with_name(kind)), "resize": 48})
    config.train.update({"batch_size": 8, "epochs": 80.0})
    settings = for_classes(config.to_dict(), open_records(records, "val").classes)
    save_run(tmp_path / "run", settings, step=60)
    row = {"step": 60, "split": "train", "loss/total": 2.3, "top1": 10.0}
    (tmp_path / "run" / "metrics.jsonl").write_text(json.dumps(row) + "\n" + '{"step": 61')
    words = ["report", str(tmp_path / "run"), "--videos", "2", "--json", str(tmp_path / "said.json")]
    assert main(words) == 0
    said = json.loads((tmp_path / "said.json").read_text())
    assert said == {"report": str(tmp_path / "run" / "report.html"), "step": 60, "best_step": 60, "videos": 2}
    html = Path(said["report"]).read_text()
    assert "step 60 of 100" in html  # 80 epochs of 10 videos in batches of 8
    assert html.count("Held-out video ") == 2
    assert html.count("data:image/jpeg") == 2
    assert "(truth" not in html  # that is in the picture
    assert "report: " in capsys.readouterr().out


def test_a_converted_classifier_without_records(tmp_path):
    settings = for_classes(base_config("tsm_tiny").to_dict(), ["a", "b"])
    save_run(tmp_path / "theirs", settings, step=0)
    page = tmp_path / "pages" / "x.html"
    words = ["report", str(tmp_path / "theirs"), "--out", str(page)]
    assert run_command([*words, "--data", str(tmp_path / "gone")])["videos"] == 0
    html = page.read_text()
    assert "None to show: the records in" in html
    assert "No step is logged" in html
    run_command([*words, "--videos", "0"])
    assert "None to show" not in page.read_text()


def test_a_folder_that_is_no_run_is_refused(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 2
    assert "is not a checkpoint" in capsys.readouterr().err

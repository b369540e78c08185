"""The main job by its commands, on a handful of made videos: prepare, train, evaluate, predict, and what goes wrong."""

import hashlib
import json
import re
from pathlib import Path

import jax
import numpy as np
import pytest

from adafocus_jax.checkpoint import load_checkpoint
from adafocus_jax.cli.main import main, run_command
from adafocus_jax.config import read_run_config
from adafocus_jax.data.records.reader import open_records
from adafocus_jax.demo.videos import write_videos
from adafocus_jax.early_exit import CRITERIA
from adafocus_jax.engine.openvino_graph import is_installed
from adafocus_jax.train.starts import read_starts

ROOT = Path(__file__).parents[2]
# Small enough to compile in seconds; four simulated devices divide the batch.
SMALL = [
    "--config.train.steps=4",
    "--config.train.batch_size=8",
    "--config.model.num_candidates=8",
    "--config.model.num_glance=4",
    "--config.model.num_focus=2",
    "--config.model.image_size=48",
    "--config.model.glance_size=24",
    "--config.model.patch_size=16",
    "--config.data.resize=48",
    "--config.model.policy_hidden=8",
    "--config.model.classifier_hidden=16",
    "--config.train.eval_pictures=1",
]


@pytest.fixture(scope="module")
def job(tmp_path_factory) -> Path:
    """A folder with videos, records and a run of four steps."""
    out = tmp_path_factory.mktemp("job")
    write_videos(out / "videos", num_train=20, num_test=10, workers=1, progress=False)
    videos = out / "videos"
    prepare = ["prepare", str(videos / "train"), str(out / "records"), "--val-src", str(videos / "test")]
    run_command([*prepare, "--size", "48", "--fps", "0", "--workers", "0"])
    figures = run_command(train_words(out))
    assert figures["step"] == 4
    assert 0 <= figures["top1"] <= 100
    return out


def train_words(out: Path, *settings: str) -> list[str]:
    config = str(ROOT / "configs" / "demo.py")
    return [
        "train",
        "--config",
        config,
        "--data",
        str(out / "records"),
        "--workdir",
        str(out / "run"),
        *SMALL,
        *settings,
    ]


def complaint(capsys, *words) -> str:
    """The one line with which a command refuses."""
    assert main([str(word) for word in words]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    said = [line for line in lines if line.startswith(f"adafocus {words[0]}: ")]
    assert len(said) == 1
    assert "Traceback" not in "".join(lines)
    return said[0]


def test_a_run_is_repeated_bit_for_bit(job, tmp_path, capsys):
    assert main(["train", "--from-run", str(job / "run"), "--workdir", str(tmp_path / "again")]) == 0
    assert "not as in the run" not in capsys.readouterr().err
    (first, *_), (again,) = (read_starts(workdir) for workdir in (job / "run", tmp_path / "again"))
    assert (again["step"], again["seed"], again["devices"]["count"]) == (0, 0, 4)
    for name in ("code", "versions", "data", "plugins"):
        assert again[name] == first[name]
    checksums = (job / "records" / "SHA256SUMS").read_bytes()
    assert again["data"]["fingerprint"] == hashlib.sha256(checksums).hexdigest()
    runs = [load_checkpoint(workdir, "latest") for workdir in (job / "run", tmp_path / "again")]
    again_config = runs[1].config
    assert runs[0].config == again_config
    jax.tree.map(np.testing.assert_array_equal, runs[0].variables, runs[1].variables)
    settings = read_run_config(job / "run", ["--config.seed=1"])
    assert settings | {"seed": 0, "classes": again_config["classes"]} == again_config
    assert list(settings["optimizer"]["groups"]) == list(again_config["optimizer"]["groups"])


def test_evaluate_writes_figures_predictions_and_curve(job, tmp_path):
    words = ["evaluate", "--checkpoint", job / "run", "--early-exit", "--controls", "--out", tmp_path / "out"]
    assert main([*map(str, words), "--crops", "3", "--json", str(tmp_path / "figures.json")]) == 0
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["videos"] == 10
    assert len(figures["exits"]) == len(figures["exit_gflops"]) == 6
    assert [row["temporal"] for row in figures["controls"]].count("uniform") == 2
    assert len(figures["early_exit"]) == len(CRITERIA) + 2  # and random and fixed exits
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "predictions.npz",
        "early_exit.csv",
        "early_exit.png",
        "figures.json",
    }
    assert json.loads((tmp_path / "out" / "figures.json").read_text()) == figures
    with np.load(tmp_path / "out" / "predictions.npz") as found:
        assert found["exit_logits"].shape == (10, 6, 10)
    assert not (job / "run" / "checkpoints" / "early_exit.json").exists()  # predict looks at one crop


def test_more_crops_cost_more_and_policies_serve_predict(job, tmp_path, capsys):
    """One crop and three of square frames: each crop is the whole frame, so the logits are the same."""
    words = ["evaluate", "--checkpoint", str(job / "run"), "--out", str(tmp_path)]
    three = run_command([*words, "--crops", "3", "--metric", "mAP"])
    with np.load(tmp_path / "predictions.npz") as found:
        averaged = found["exit_logits"]
    one = run_command([*words, "--early-exit"])
    with np.load(tmp_path / "predictions.npz") as found:
        np.testing.assert_allclose(averaged, found["exit_logits"], rtol=1e-5, atol=1e-6)
    assert three["gflops"] == pytest.approx(3 * one["gflops"])
    assert list(three["exits"].values())[-1] == pytest.approx(one["mAP"])
    assert "leaving as early as possible by confidence already takes" in complaint(
        capsys, "predict", "--checkpoint", job / "run", "x.mp4", "--budget", "0.01"
    )


@pytest.mark.skipif(not is_installed(), reason="needs the extra openvino")
def test_what_another_backend_and_precision_change_is_said(job, tmp_path, capsys):
    flags = ["--backend", "openvino", "--precision", "bfloat16", "--batch-size", "10", "--out", str(tmp_path)]
    figures = run_command(["evaluate", "--checkpoint", str(job / "run"), *flags])
    compared = figures["compared_to_xla"]
    assert 0 < compared["logit_error"] < 0.1  # bfloat16 has been used, and does what the model does
    said = re.search(r"(\d+) of 10 predictions differ, top-1 (\S+)% against (\S+)%", capsys.readouterr().out)
    assert said.groups() == (str(compared["changed"]), f"{figures['top1']:.2f}", f"{compared['top1']:.2f}")
    assert abs(figures["top1"] - compared["top1"]) <= 10 * compared["changed"]


def test_predicting_a_file_agrees_with_evaluating_its_record(job, tmp_path):
    """The same video from mp4 and from records: JPEG changes pixels a little, and so the boxes."""
    run_command(["evaluate", "--checkpoint", str(job / "run"), "--out", str(tmp_path)])
    video = sorted((job / "videos" / "test").glob("*/*.mp4"))[0]
    (entry,) = predict(job / "run", video, tmp_path, "--no-early-exit")
    source = open_records(job / "records", "val")
    (record,) = (number for number in range(len(source)) if source[number].name.endswith(video.name))
    with np.load(tmp_path / "predictions.npz") as found:
        (boxes,) = found["boxes"][found["index"] == record]
    np.testing.assert_allclose(entry["boxes"], boxes, atol=1.0)


def predict(run, video, out, *words) -> list[dict]:
    target = out / "predictions.json"
    main(["predict", "--checkpoint", str(run), str(video), "--json", str(target), *map(str, words)])
    return json.loads(target.read_text())["videos"]


def test_training_again_resumes_and_another_config_is_refused(job, capsys):
    assert run_command(train_words(job))["step"] == 4
    said = complaint(capsys, *train_words(job, "--config.optimizer.lr=0.1"))
    assert "optimizer.lr is 0.002 there, 0.1 here" in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["evaluate", "--checkpoint", "nowhere"], "no such checkpoint folder: nowhere"),
        (["evaluate", "--checkpoint", "{job}/records"], "is not a checkpoint"),
        (["evaluate", "--checkpoint", "{job}/run", "--split", "test"], "no split 'test'"),
        (["evaluate", "--checkpoint", "{job}/run", "--data", "{job}/evaluation"], "adafocus prepare"),
        (["predict", "--checkpoint", "{job}/run", "x.mp4", "--overlay"], "--overlay needs --draw"),
        (
            ["train", "--config", "configs/none.py", "--workdir", "{job}/other"],
            "no such config file: 'configs/none.py'",
        ),
        (
            ["train", "--config", "{root}/configs/demo.py", "--workdir", "{job}/other"],
            "no data: give --data DIR",
        ),
        (
            ["train", "--config", "{root}/configs/demo.py", "--workdir", "gs://bucket/run"],
            "--workdir gs://bucket/run is an address",
        ),
        (["train", "{demo}", "--config.optimizer.lrr=1"], 'Did you mean "lr" instead of "lrr"'),
        (
            ["train", "{demo}", "--config.train.batch_size=6"],
            "a batch of 6 does not divide over 4 devices: take 4 or 8",
        ),
        (["train", "{demo}", "--config.train.batch_size=64"], "more than the 20 training videos"),
        (["train", "{demo}", "--config.train.parallel=magic"], "choose pmap or shard_map"),
        (["train", "{demo}", "--config.model.num_focus=99"], "num_focus=99 exceeds num_candidates=16"),
    ],
)
def test_mistakes_are_told_in_one_line(job, tmp_path, capsys, words, message):
    demo = [
        "--config",
        str(ROOT / "configs" / "demo.py"),
        "--data",
        f"{job}/records",
        "--workdir",
        str(tmp_path),
    ]
    filled = [part.format(job=job, root=ROOT) if part != "{demo}" else part for part in words]
    at = filled.index("{demo}") if "{demo}" in filled else None
    words = filled if at is None else [*filled[:at], *demo, *filled[at + 1 :]]
    assert re.search(re.escape(message), complaint(capsys, *words))


def test_data_with_other_classes_is_refused(job, tmp_path, capsys):
    """Records of three of the ten classes, under other numbers."""
    few = tmp_path / "videos"
    for folder in sorted((job / "videos" / "train").iterdir())[-3:]:
        (few / folder.name).mkdir(parents=True)
        for video in list(folder.iterdir())[:2]:
            (few / folder.name / video.name).write_bytes(video.read_bytes())
    run_command(["prepare", str(few), str(tmp_path / "records"), "--size", "48", "--workers", "0"])
    said = complaint(
        capsys, "evaluate", "--checkpoint", job / "run", "--data", tmp_path / "records", "--split", "train"
    )
    assert "prepare the data with the checkpoint's class file" in said


@pytest.mark.parametrize(("model", "exits"), [("uni_adafocus_tsm_tiny", 2), ("tsm_tiny", 1)])
def test_the_other_kinds_of_model_go_the_same_way(job, tmp_path, model, exits):
    """A glance of its own, one box per video, two exits; and a plain classifier."""
    config = tmp_path / "config.py"
    config.write_text(
        "from adafocus_jax.config import base_config\n"
        "def get_config():\n"
        f"    config = base_config({model!r})\n"
        "    config.model.update({'image_size': 48, 'num_candidates': 8})\n"
        "    if 'num_focus' in config.model:\n"
        "        config.model.update({'num_glance': 4, 'num_focus': 2, 'glance_size': 24, 'patch_size': 16})\n"
        "    config.data.resize = 48\n"
        "    config.train.update({'steps': 2, 'batch_size': 8, 'eval_pictures': 0})\n"
        "    return config\n"
    )
    data, run = ["--data", str(job / "records")], str(tmp_path / "run")
    assert run_command(["train", "--config", str(config), *data, "--workdir", run])["step"] == 2
    figures = run_command(["evaluate", "--checkpoint", run])
    assert len(figures["exits"]) == exits
    video = sorted((job / "videos" / "test").glob("*/*.mp4"))[0]
    (entry,) = predict(run, video, tmp_path, "--draw", tmp_path / "pictures")
    assert len(entry["pictures"]) == 3


def test_unknown_flags_are_refused(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["train", "--config", "configs/demo.py", "--workdir", "x", "--lr", "3"])
    assert stop.value.code == 2
    assert "--lr" in capsys.readouterr().err

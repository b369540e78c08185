import json
import logging
import os
import signal
import subprocess
import sys

import jax
import numpy as np
import optax
import pytest

from adafocus_jax.checkpoint import load_checkpoint
from adafocus_jax.errors import UserError
from adafocus_jax.evaluate import predict
from adafocus_jax.models import init_variables
from adafocus_jax.train import Evaluator, TrainingDivergedError
from adafocus_jax.types import VideoBatch


def rows(workdir, split="train"):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["split"] == split]


def assert_same_end(workdir, reference, steps=(2, 4, 6, 8, 10, 12)):
    """Parameters and statistics bit for bit, and the same log."""
    ours, theirs = (load_checkpoint(folder, "latest") for folder in (workdir, reference))
    assert ours.step == theirs.step == 12
    jax.tree.map(np.testing.assert_array_equal, ours.variables, theirs.variables)
    timed = ("examples_per_sec", "data_wait_frac")
    logs = [
        [{k: v for k, v in row.items() if k not in timed} for row in rows(d)] for d in (workdir, reference)
    ]
    assert [row["step"] for row in logs[0]] == list(steps)
    assert logs[0][-1] == logs[1][-1]


@pytest.fixture(scope="module")
def uninterrupted(toy, tmp_path_factory):
    """A run of 12 steps, evaluated at every fourth: the score falls, so that the best is not the latest."""
    workdir = tmp_path_factory.mktemp("uninterrupted")
    scores = iter([30.0, 20.0, 10.0])
    picture = np.zeros((4, 4, 3), np.uint8)

    def evaluate(variables, progress):
        return {"top1": next(scores), "top5": 99.0, "clip/frames": picture}

    result = toy.run(workdir, eval_every=4, evaluate=evaluate)
    assert (result.step, result.signal, result.metrics) == (12, None, {"top1": 10.0, "top5": 99.0})
    return workdir


def test_a_run_learns_and_leaves_log_and_checkpoints(uninterrupted):
    train, evaluations = rows(uninterrupted), rows(uninterrupted, "eval")
    assert train[-1]["loss/exits"] < train[0]["loss/exits"]
    assert {"loss/total", "top1", "grad_norm", "learning_rate", "policy/weight_entropy"} <= train[0].keys()
    assert train[-1]["examples_per_sec"] > 0
    assert 0 <= train[-1]["data_wait_frac"] <= 1
    assert [(row["step"], row["top1"]) for row in evaluations] == [(4, 30.0), (8, 20.0), (12, 10.0)]
    (board,) = (uninterrupted / "tensorboard").iterdir()
    assert b"eval/clip/frames" in board.read_bytes()
    assert load_checkpoint(uninterrupted).step == 4
    assert load_checkpoint(uninterrupted, "latest").step == 12


def test_a_finished_run_is_left_alone(toy, uninterrupted, caplog):
    caplog.set_level(logging.INFO)
    result = toy.run(uninterrupted, at={0: pytest.fail})
    assert (result.step, result.metrics) == (12, {"top1": 10.0, "top5": 99.0})
    assert "nothing to do" in caplog.text


def script(toy_script, workdir, *words):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, str(toy_script), str(workdir), *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def test_killed_between_two_saves_then_started_again_ends_bit_for_bit_alike(
    toy, toy_script, uninterrupted, tmp_path
):
    assert script(toy_script, tmp_path, "die=8").returncode == -signal.SIGKILL
    toy.run(tmp_path)
    assert_same_end(tmp_path, uninterrupted)


def test_killed_in_a_save_it_goes_on_from_the_one_before(toy, toy_script, uninterrupted, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    assert script(toy_script, tmp_path, "torn=6").returncode == -signal.SIGKILL
    assert list((tmp_path / "checkpoints").glob("6.*"))
    toy.run(tmp_path)
    assert "resuming from step 3" in caplog.text
    assert not list((tmp_path / "checkpoints").glob("6.*"))
    assert_same_end(tmp_path, uninterrupted)


def test_a_full_disk_stops_with_the_step_and_loses_nothing(toy, toy_script, uninterrupted, tmp_path):
    """While the batch of the fifth step is asked for, so that the checkpoint of the sixth does not fit."""
    done = script(toy_script, tmp_path, "full=4")
    assert done.returncode != 0
    assert "the checkpoint of step 6 could not be written" in done.stderr
    assert "File too large" in done.stderr
    assert "start again to resume from step 3" in done.stderr
    assert load_checkpoint(tmp_path, "latest").step == 3
    assert "metrics.jsonl cannot be written, training continues: File too large" in done.stderr
    assert "TensorBoard's files in" in done.stderr
    toy.run(tmp_path, log_every=2)
    assert_same_end(tmp_path, uninterrupted, steps=[1, 2, 3, 4, 6, 8, 10, 12])


def test_sigterm_saves_and_says_so_with_its_exit_code(toy, toy_script, uninterrupted, tmp_path):
    done = script(toy_script, tmp_path, "stop=7")
    assert done.returncode == 128 + signal.SIGTERM, done.stderr
    assert load_checkpoint(tmp_path, "latest").step == 7
    toy.run(tmp_path)
    assert_same_end(tmp_path, uninterrupted)


def deliver(number):
    """As Python does between two bytecodes. Real signals are for processes of their own, not for that of the tests."""
    signal.getsignal(number)(number, None)


def test_a_signal_during_evaluation_ends_it_and_saves(toy, uninterrupted, tmp_path):
    before = signal.getsignal(signal.SIGINT)

    def evaluate(variables, progress):
        progress(1)
        deliver(signal.SIGINT)
        progress(1)
        raise AssertionError("evaluation went on")

    result = toy.run(tmp_path, eval_every=5, evaluate=evaluate)
    assert (result.step, result.signal, result.metrics) == (5, signal.SIGINT, {})
    assert signal.getsignal(signal.SIGINT) is before
    assert not rows(tmp_path, "eval")
    toy.run(tmp_path)
    assert_same_end(tmp_path, uninterrupted)


def test_a_signal_after_a_step_looked_for_it_is_not_lost(toy, tmp_path, monkeypatch):
    """While a row is written nothing is saved; what it tells of is saved next."""

    def write(self, split, step, values):
        if step == 4:
            deliver(signal.SIGTERM)

    monkeypatch.setattr("adafocus_jax.train.logger.MetricWriter.write", write)
    result = toy.run(tmp_path, checkpoint_every=0)
    assert (result.step, result.signal) == (4, signal.SIGTERM)
    assert load_checkpoint(tmp_path, "latest").step == 4


def test_a_loss_that_is_not_finite_stops_and_is_never_saved(toy, tmp_path):
    with pytest.raises(TrainingDivergedError) as caught:
        toy.run(tmp_path, poison=7)  # the eighth step
    message = str(caught.value)
    assert "diverged at step 8: " in message
    assert "loss/exits nan" in message
    assert f"last good checkpoint: {tmp_path / 'checkpoints' / '6'};" in message
    assert "\n" not in message
    assert load_checkpoint(tmp_path, "latest").step == 6
    assert [row["step"] for row in rows(tmp_path)] == [2, 4, 6]


def test_divergence_between_two_rows_is_found_before_saving(toy, tmp_path):
    with pytest.raises(TrainingDivergedError, match=r"step 3: .* last good checkpoint: none yet"):
        toy.run(tmp_path, poison=2, log_every=100)


def test_parameters_that_overflow_are_not_saved_though_the_loss_is_finite(toy, tmp_path):
    with pytest.raises(TrainingDivergedError, match=r"step 1: params/.* is not finite"):
        toy.run(tmp_path, steps=1, learning_rate=3e38)
    assert not list((tmp_path / "checkpoints").glob("[0-9]*"))


def test_skipped_updates_are_counted_and_named(toy, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    result = toy.run(tmp_path, poison=6, on_nan="skip")  # the seventh step
    assert result.step == 12
    assert "step 7 skipped, its update dropped: loss/exits nan, loss/total nan" in caplog.text
    assert [row["skipped"] for row in rows(tmp_path)] == [0, 0, 0, 1, 0, 0]
    assert all(np.isfinite(list(row.values())[2:]).all() for row in rows(tmp_path))


def test_a_window_of_skipped_steps_alone_leaves_a_row(toy, tmp_path):
    toy.run(tmp_path, steps=2, poison=1, on_nan="skip", log_every=1)
    assert rows(tmp_path)[1]["skipped"] == 1
    assert "loss/total" not in rows(tmp_path)[1]


def test_resume_comes_before_initialise_and_that_before_fresh(toy, tmp_path):
    given = []

    def initialize(variables):
        given.append(variables)
        return jax.tree.map(lambda x: np.full_like(x, 0.25), variables)

    def die():
        raise InterruptedError

    with pytest.raises(InterruptedError):
        toy.run(tmp_path / "a", initialize=initialize, at={5: die})
    toy.run(tmp_path / "a", initialize=pytest.fail)  # resumes from step 5
    toy.run(tmp_path / "b", initialize=initialize)
    assert len(given) == 2
    assert_same_end(tmp_path / "a", tmp_path / "b")
    toy.run(tmp_path / "c", steps=1)
    first = [rows(tmp_path / name)[0]["loss/total"] for name in ("a", "c")]
    assert first[0] != first[1]


def test_a_damaged_checkpoint_falls_back_to_the_one_before(toy, uninterrupted, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    toy.run(tmp_path, at={10: lambda: deliver(signal.SIGTERM)})
    (tmp_path / "checkpoints" / "10" / "state" / "manifest.ocdbt").write_bytes(b"")
    toy.run(tmp_path)
    assert "checkpoint of step 10 is damaged" in caplog.text
    assert "resuming from step 9" in caplog.text
    assert_same_end(tmp_path, uninterrupted)


def test_another_config_is_refused_and_nothing_is_lost(toy, uninterrupted):
    before = {path: path.stat().st_mtime_ns for path in uninterrupted.rglob("*")}
    with pytest.raises(UserError, match=r"holds a run of another config \(steps is 12 there, 13 here\)"):
        toy.run(uninterrupted, config={"steps": 13, "data": {"workers": 4}})
    assert {path: path.stat().st_mtime_ns for path in uninterrupted.rglob("*")} == before
    toy.run(uninterrupted, config={"steps": 12, "data": {"workers": 4}})


def test_what_does_not_fit_fails_before_data_and_files(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(toy, "BATCH", 6)
    with pytest.raises(UserError, match="a batch of 6 does not divide over 4 devices: take 4 or 8"):
        toy.run(tmp_path, at={0: pytest.fail})
    assert not list(tmp_path.iterdir())


def test_evaluations_in_training_compile_once(toy, monkeypatch):
    traced = []
    draw = predict.sample_draws
    monkeypatch.setattr(predict, "sample_draws", lambda *args: traced.append(args) or draw(*args))
    model = toy.Toy(num_classes=5)
    variables = init_variables(model, jax.random.key(0))
    logits = [
        predict.make_predict_function(model, changed)(VideoBatch(frames=toy.batch(0)["frames"]), 0).logits
        for changed in (variables, jax.tree.map(lambda x: x + 1, variables))
    ]
    assert len(traced) == 1
    assert not np.array_equal(*logits)


def test_an_unknown_best_metric_is_named(toy, tmp_path):
    with pytest.raises(UserError, match="no metric 'mAP' to choose the best by: evaluation yields top1"):
        toy.run(tmp_path, steps=1, best_metric="mAP", evaluate=lambda variables, progress: {"top1": 1.0})


def test_any_optax_transformation_trains_and_resumes(toy, tmp_path):
    optimizer = optax.adamw(optax.cosine_decay_schedule(1e-2, 4))
    toy.run(tmp_path / "a", steps=4, optimizer=optimizer)
    with pytest.raises(InterruptedError):
        toy.run(tmp_path / "b", steps=4, optimizer=optimizer, at={2: interrupt})
    toy.run(tmp_path / "b", steps=4, optimizer=optimizer)
    ours, theirs = (load_checkpoint(tmp_path / name, "latest").variables for name in "ab")
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    assert "learning_rate" not in rows(tmp_path / "a")[0]


def interrupt():
    raise InterruptedError("a video does not read")


def test_a_data_error_saves_what_was_done_before_it(toy, tmp_path):
    with pytest.raises(InterruptedError):
        toy.run(tmp_path, steps=12, checkpoint_every=0, at={5: interrupt})
    assert load_checkpoint(tmp_path, "latest").step == 5


def test_a_failing_evaluation_loses_nothing_and_is_made_up_for(toy, tmp_path):
    """It is due at the end alone, which is saved before."""
    with pytest.raises(InterruptedError):
        toy.run(tmp_path, steps=2, evaluate=lambda variables, progress: interrupt())
    assert load_checkpoint(tmp_path, "latest").step == 2
    result = toy.run(
        tmp_path, steps=2, evaluate=lambda variables, progress: {"top1": 7.0}, at={0: pytest.fail}
    )
    assert (result.step, result.metrics) == (2, {"top1": 7.0})
    assert [(row["step"], row["top1"]) for row in rows(tmp_path, "eval")] == [(2, 7.0)]
    assert toy.run(tmp_path, steps=2, evaluate=pytest.fail).metrics == {"top1": 7.0}


def test_evaluators_have_cadences_and_rows_of_their_own(toy, tmp_path):
    often = Evaluator("eval", lambda variables, progress: {"top1": 1.0}, 1)
    seldom = Evaluator("robust", lambda variables, progress: {"noisy_top1": 2.0}, 2)
    result = toy.run(
        tmp_path, steps=3, evaluators=[often, seldom], best_metric="noisy_top1", checkpoint_every=0
    )
    assert [row["step"] for row in rows(tmp_path, "eval")] == [1, 2, 3]
    assert [row["step"] for row in rows(tmp_path, "robust")] == [2, 3]
    assert result.metrics == {"top1": 1.0, "noisy_top1": 2.0}
    assert load_checkpoint(tmp_path).step == 3
    twice = [often, Evaluator("again", lambda variables, progress: {"top1": 3.0})]
    with pytest.raises(UserError, match="evaluator 'again' yields 'top1', as another does"):
        toy.run(tmp_path / "twice", steps=1, evaluators=twice)

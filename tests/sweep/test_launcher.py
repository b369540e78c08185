"""Sweeps through kills, several launchers, damaged files, full disks: each trial once, resumed where it stood."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from adafocus_jax.errors import UserError
from adafocus_jax.sweep import SweepFolder, launch, parse_objectives
from adafocus_jax.sweep.folder import Watch
from adafocus_jax.sweep.trial import TAKEN, run_trial

STUB = Path(__file__).with_name("stub.py")
TOP1 = parse_objectives("top1")


def rates(count):
    return [{"optimizer.lr": number / 10} for number in range(count)]


def start(sweep: SweepFolder, *options: str) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, STUB, sweep.path, *options], stdout=subprocess.PIPE, text=True)


def assert_each_step_once(sweep: SweepFolder) -> None:
    for trial in sweep.trials():
        steps = (trial.workdir / "steps").read_text().split()
        assert steps == [str(step) for step in range(20)], trial.number
        assert trial.state == "done"


def test_500_trials_take_seconds(make_sweep, stub):
    sweep = make_sweep(*({"optimizer.lr": number / 1000} for number in range(500)))
    found = launch(sweep, TOP1, run=lambda words: {"top1": 50.0})
    assert found.states == {"done": 500}


def test_killed_launchers_lose_nothing_and_share(make_sweep):
    """Three launchers at a time, killed at random points; then one brings it to its end."""
    sweep, rng = make_sweep(*rates(6)), np.random.default_rng(0)
    for _ in range(2):
        launchers = [start(sweep, "pause=0.03") for _ in range(2)]
        for launcher in launchers:
            assert launcher.stdout.readline() == "ready\n"
        time.sleep(rng.uniform(0.3, 0.9))
        for launcher in launchers:
            launcher.kill()
            launcher.communicate()
    last = [start(sweep) for _ in range(2)]
    for launcher in last:
        out, _ = launcher.communicate(timeout=60)
        assert json.loads(out.splitlines()[-1]) == {"done": 6}
    assert_each_step_once(sweep)


def test_a_claimed_trial_is_left_alone(make_sweep, stub):
    sweep = make_sweep(*rates(1))
    held = sweep.claim(0, None)
    assert held is not None
    assert sweep.claim(0, None) is None
    assert run_trial(sweep, 0, stub) == TAKEN
    held.release()
    assert run_trial(sweep, 0, stub) == 0
    assert run_trial(sweep, 0, stub) == TAKEN  # it has a result
    assert sweep.trial(0).result["objectives"] == {"top1": pytest.approx(97.0)}


def test_only_what_was_observed_can_be_taken_over(make_sweep):
    sweep = make_sweep(*rates(1))
    sweep.claim(0, None)
    seen = sweep.trial(0).observed
    assert sweep.claim(0, seen) is not None
    assert sweep.claim(0, seen) is None, "somebody was faster"


def test_a_claim_of_another_host_is_stale_when_its_counter_stands_still(make_sweep, monkeypatch):
    """By the monotonic clock of the one who looks: wall clocks may jump as they like."""
    sweep, now = make_sweep(*rates(1)), [100.0]
    monkeypatch.setattr("adafocus_jax.sweep.folder.time.monotonic", lambda: now[0])
    monkeypatch.setattr("adafocus_jax.sweep.folder.time.time", lambda: pytest.fail("a wall clock decides"))
    monkeypatch.setattr("adafocus_jax.sweep.folder.socket.gethostname", lambda: "elsewhere")
    claim = sweep.claim(0, None)
    monkeypatch.setattr("adafocus_jax.sweep.folder.socket.gethostname", lambda: "here")
    watch = Watch(stale_sec=60)
    assert not watch.is_stale(sweep.trial(0))
    now[0] += 59
    assert not watch.is_stale(sweep.trial(0))
    claim.beat()  # as a process there would
    assert not watch.is_stale(sweep.trial(0))
    now[0] += 59
    assert not watch.is_stale(sweep.trial(0))
    now[0] += 2
    assert watch.is_stale(sweep.trial(0))


def test_a_dead_process_of_this_host_is_stale_at_once(make_sweep):
    sweep = make_sweep(*rates(1))
    sweep.claim(0, None)
    assert not Watch().is_stale(sweep.trial(0))
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    path = sweep.trial(0).folder / "claim.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "pid": gone.pid}))
    assert Watch().is_stale(sweep.trial(0))


def test_failing_trials_are_recorded_and_end_nothing(make_sweep, stub):
    sweep = make_sweep(*rates(4))

    def run(words):
        rate = next(float(word.split("=")[1]) for word in words if "optimizer.lr" in word)
        if rate == 0.1:
            raise UserError("batch size 7 does not divide")
        if rate == 0.2:
            raise RuntimeError("RESOURCE_EXHAUSTED: out of memory while allocating")
        return {"top1": float("nan")} if rate == 0.3 else stub(words)

    assert launch(sweep, TOP1, run=run).states == {"done": 1, "failed": 3}
    reasons = [trial.result.get("reason", "") for trial in sweep.trials()]
    assert reasons == ["", "batch size 7 does not divide", "out of memory", "top1 is not finite"]


def test_an_error_common_to_all_ends_the_sweep(make_sweep):
    sweep = make_sweep(*rates(5))

    def run(words):
        raise UserError("no such folder: records")

    with pytest.raises(UserError, match="every trial fails alike: no such folder: records"):
        launch(sweep, TOP1, run=run)
    assert [trial.state for trial in sweep.trials()] == ["failed", "failed", "waiting", "waiting", "waiting"]


def test_damaged_files_cost_no_more_than_what_they_hold(make_sweep, stub, caplog):
    sweep = make_sweep(*rates(3))
    launch(sweep, TOP1, run=stub)
    (sweep.trial(0).folder / "result.json").write_text('{"state": "do')
    (sweep.trial(1).folder / "trial.json").write_text("")
    again = launch(SweepFolder(sweep.path), TOP1, run=stub)
    assert again.states == {"done": 2, "failed": 1}
    assert "trial.json does not read" in sweep.trial(1).result["reason"]
    assert_each_step_once_of(sweep, 0, 2)
    assert "result.json does not read" in caplog.text


def assert_each_step_once_of(sweep: SweepFolder, *numbers: int) -> None:
    for number in numbers:
        assert len((sweep.trial(number).workdir / "steps").read_text().split()) == 20


def test_a_full_disk_fails_one_trial(make_sweep):
    sweep = make_sweep(*rates(2))
    launcher = start(sweep, "full=0")
    out, _ = launcher.communicate(timeout=60)
    assert json.loads(out.splitlines()[-1]) == {"done": 1, "failed": 1}
    assert "No space left on device" in sweep.trial(0).result["reason"]


def test_a_signal_gives_the_trial_back(make_sweep):
    sweep = make_sweep(*rates(2))

    def run(words):
        raise SystemExit(128 + signal.SIGTERM)

    found = launch(sweep, TOP1, run=run)
    assert found.signal == signal.SIGTERM
    assert [trial.state for trial in sweep.trials()] == ["waiting", "waiting"]


@pytest.mark.parametrize("end", [lambda claim: claim.release(), lambda claim: claim.finish({})])
def test_a_heartbeat_after_the_end_of_a_claim_neither_brings_it_back_nor_takes_it_for_lost(make_sweep, end):
    claim = make_sweep(*rates(1)).claim(0, None)
    end(claim)
    assert claim.beat()
    assert not (claim.trial.folder / "claim.json").exists()


def test_a_trial_that_is_killed_again_and_again_fails(make_sweep):
    sweep = make_sweep(*rates(1))
    for _ in range(3):
        sweep.claim(0, sweep.trial(0).observed)
    assert run_trial(sweep, 0, lambda words: pytest.fail("it ran"), sweep.trial(0).observed) == 0
    assert "killed 3 times without progress" in sweep.trial(0).result["reason"]


def test_a_holder_that_lost_its_claim_stops(make_sweep):
    sweep, received = make_sweep(*rates(1)), []
    before = signal.signal(signal.SIGTERM, lambda *_: received.append(True))
    try:

        def run(words):
            sweep.claim(0, sweep.trial(0).observed)
            deadline = time.monotonic() + 10
            while not received and time.monotonic() < deadline:
                time.sleep(0.01)
            raise SystemExit(128 + signal.SIGTERM)

        assert run_trial(sweep, 0, run, beat_sec=0.01) == 128 + signal.SIGTERM
    finally:
        signal.signal(signal.SIGTERM, before)
    assert received
    assert sweep.trial(0).claim is not None, "the other one's claim stays"


def test_a_file_system_without_locks_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("adafocus_jax.sweep.folder._file_system", lambda path: "fuse.gcsfuse")
    with pytest.raises(UserError, match="gcsfuse, which knows no locks"):
        SweepFolder(tmp_path / "sweep").create({})


def test_a_sweep_begun_with_other_words_is_told(make_sweep):
    sweep = make_sweep()
    changed = {**sweep.spec(), "settings": ["--config.train.steps=5"]}
    assert sweep.create(changed) == ["settings was [], now ['--config.train.steps=5']"]
    assert sweep.create(sweep.spec()) == []
    assert os.listdir(sweep.trials_path) == []

"""The watcher of TPU slices over a fake cloud whose workers are real processes."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from adafocus_jax.errors import UserError
from adafocus_jax.launch.bundle import Bundle, make_bundle
from adafocus_jax.launch.gcloud import CallError, Gcloud
from adafocus_jax.launch.slices import find_slice
from adafocus_jax.launch.tpu import TpuRun, down, dry_run, launch_tpu, logs, status

HERE = Path(__file__).parent
STEPS = "12"


@pytest.fixture
def cloud(tmp_path, monkeypatch) -> Path:
    """An empty cloud; `adafocus` there is the stand-in."""
    folder = tmp_path / "cloud"
    folder.mkdir()
    (folder / "events").touch()
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    shutil.copy(HERE / "fake_adafocus.sh", bin_ / "adafocus")
    (bin_ / "gcloud").write_text(f'#!/bin/sh\nexec {sys.executable} -S {HERE / "fake_gcloud.py"} "$@"\n')
    (bin_ / "gcloud").chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_CLOUD", str(folder))
    return folder


@pytest.fixture
def bundle(tmp_path) -> Bundle:
    repository = tmp_path / "repository"
    repository.mkdir()
    (repository / "code.py").write_text("x = 1\n")
    for words in (
        ["init", "-q"],
        ["add", "-A"],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "x"],
    ):
        subprocess.run(["git", "-C", repository, *words], check=True)
    (repository / "with a space.py").write_text("y = 2\n")
    return make_bundle(repository)


def make_run(tmp_path, bundle, *faults, workdir="runs/a b$c'd") -> TpuRun:
    words = ("train", "--workdir", str(tmp_path / workdir), STEPS, *faults)
    return TpuRun(
        Gcloud("mine", "us-east5-b"), find_slice("v6e-16"), words, bundle, setup="ls code.py >../installed"
    )


@pytest.fixture
def workers(monkeypatch):
    """Two workers in place of the four hosts of a v6e-16."""
    monkeypatch.setattr("adafocus_jax.launch.slices.Slice.vm_hosts", property(lambda self: 2))


def watch(run, **options) -> int:
    return launch_tpu(run, poll_sec=0.1, **options)


def finished(tmp_path, run) -> Path:
    workdir = Path(run.words[2])
    assert (workdir / "checkpoints" / STEPS).is_dir()
    assert not (workdir / "twice").exists(), "two trainers ran at once"
    assert not list((tmp_path / "cloud").glob("*.states")), "a slice is left, and costs"
    return workdir


def starts(workdir) -> int:
    return len((workdir / "starts").read_text().splitlines())


def test_a_run_without_trouble_ends_and_the_slice_is_given_back(cloud, tmp_path, bundle, workers):
    run = make_run(tmp_path, bundle)
    assert watch(run) == 0
    assert starts(finished(tmp_path, run)) == 2
    for worker in range(2):
        home = cloud / "mine" / f"worker-{worker}" / ".adafocus-runs" / "mine"
        assert (home / "code" / "with a space.py").read_text() == "y = 2\n"
        assert (home / "installed").exists()


@pytest.mark.parametrize(
    "events",
    [
        ["ssh255 0", "ssh255 1", "ssh255 0", "ssh255 1", "ssh255 0"],  # gcloud repeats commands
        ["scp 0", "scp 1"],
        ["state FAILED"],  # before it is granted
        ["state ACCEPTED", "state SUSPENDING", "state SUSPENDED"],
    ],
    ids=lambda events: events[0],
)
def test_a_run_comes_to_its_end_through(cloud, tmp_path, bundle, workers, events):
    (cloud / "events").write_text("\n".join(events) + "\n")
    run = make_run(tmp_path, bundle)
    assert watch(run) == 0
    finished(tmp_path, run)
    assert (cloud / "events").read_text() == "", "not all of it happened"


def test_a_preemption_in_the_middle_resumes(cloud, tmp_path, bundle, workers):
    run = make_run(tmp_path, bundle, "0=143@5", "1=143@5")
    calls = []
    original = Gcloud.state

    def state(self):
        if (Path(run.words[2]) / "checkpoints" / "3").is_dir() and not calls:
            calls.append(True)
            (cloud / "events").write_text("state SUSPENDED\n")
        return original(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Gcloud, "state", state)
        assert watch(run, max_restarts=0) == 0, "preemptions are not failures"
    assert calls
    assert starts(finished(tmp_path, run)) >= 4


@pytest.mark.parametrize("code", [75, 134, 137])
def test_a_lost_process_starts_all_again(cloud, tmp_path, bundle, workers, code):
    run = make_run(tmp_path, bundle, f"1={code}@4")
    assert watch(run) == 0
    assert starts(finished(tmp_path, run)) == 4


@pytest.mark.parametrize("code", [1, 2])
def test_a_user_error_stops_and_names_worker_and_line(cloud, tmp_path, bundle, workers, code, caplog):
    run = make_run(tmp_path, bundle, f"1={code}@3", "0=75@5")
    assert watch(run) == code
    assert "worker 1" in caplog.text
    assert "fault at step 3" in caplog.text
    assert not list(cloud.glob("*.states"))


def test_failures_without_progress_are_limited(cloud, tmp_path, bundle, workers, caplog):
    run = make_run(tmp_path, bundle, "1=137@1", workdir="runs/a")
    faults = Path(run.words[2]) / "fault-1=137@1"

    def again(self):
        shutil.rmtree(faults, ignore_errors=True)
        shutil.rmtree(Path(self.words[2]) / "checkpoints", ignore_errors=True)
        return original(self)

    original = TpuRun.prepare_commands
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TpuRun, "prepare_commands", again)
        assert watch(run, max_restarts=1) == 137
    assert "2 times without progress" in caplog.text


def test_code_that_was_cut_on_its_way_is_noticed(cloud, tmp_path, bundle, workers):
    (cloud / "events").write_text("cut 1\n")
    run = make_run(tmp_path, bundle)
    assert watch(run) == 0
    finished(tmp_path, run)


def test_a_refused_request_is_a_user_error(cloud, tmp_path, bundle, workers):
    (cloud / "events").write_text("denied\n")
    with pytest.raises(UserError, match=r"no slice: .*PERMISSION_DENIED: quota exceeded"):
        watch(make_run(tmp_path, bundle))


def test_ctrl_c_detaches_and_a_second_launcher_takes_the_run_up(
    cloud, tmp_path, bundle, workers, caplog, capsys
):
    run = make_run(tmp_path, bundle)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("adafocus_jax.launch.tpu._Watcher._await_end", lambda self: interrupt())
        with pytest.raises(KeyboardInterrupt):
            watch(run)
    assert "--status" in caplog.text
    assert "--down" in caplog.text
    assert [line.split()[0] for line in status(run.gcloud, find_slice("v6e-16"))] == [
        "mine:",
        "worker",
        "worker",
    ]
    assert watch(run) == 0
    finished(tmp_path, run)


def interrupt():
    raise KeyboardInterrupt


def test_down_gives_back_what_still_waits(cloud, tmp_path, bundle):
    cloud_ = Gcloud("mine", "us-east5-b")
    cloud_.run(cloud_.create(find_slice("v6e-16")))
    assert cloud_.state() == "WAITING_FOR_RESOURCES"
    down(cloud_)
    assert cloud_.state() == "NOT_FOUND"
    down(cloud_)  # there is nothing, and nothing is wrong


def test_keep_leaves_the_slice_and_its_logs(cloud, tmp_path, bundle, workers):
    run = make_run(tmp_path, bundle)
    assert watch(run, keep=True) == 0
    assert "done" in logs(run.gcloud, "all")
    down(run.gcloud)


def test_a_call_that_hangs_is_bounded(cloud, monkeypatch, tmp_path):
    (tmp_path / "bin" / "gcloud").write_text("#!/bin/sh\nexec sleep 60\n")
    with pytest.raises(CallError, match="no answer within 0 s"):
        Gcloud("mine", "z", timeout_sec=0.2).state()


def test_bundles_of_equal_trees_are_equal_and_tell_of_changes(bundle, tmp_path):
    assert bundle.commit.endswith("+diff")
    assert make_bundle(tmp_path / "repository").digest == bundle.digest
    (tmp_path / "repository" / "code.py").write_text("x = 2\n")
    assert make_bundle(tmp_path / "repository").digest != bundle.digest
    with pytest.raises(UserError, match="no git repository"):
        make_bundle(tmp_path)


@pytest.mark.skipif(shutil.which("gcloud") is None, reason="checks commands against gcloud's own parser")
def test_every_command_of_a_dry_run_is_one_of_gcloud(tmp_path, bundle):
    run = make_run(tmp_path, bundle, workdir="runs/a")
    commands = [shlex.join(command) for command in dry_run(run)]
    file = tmp_path / "commands.json"
    lines = [*commands, f"{commands[0]} --no-such-flag"]
    file.write_text(json.dumps([{"id": str(i), "command_string": line} for i, line in enumerate(lines)]))
    check = ["gcloud", "meta", "lint-gcloud-commands", "--commands-file", file]
    done = subprocess.run(check, capture_output=True, text=True, timeout=120)
    *found, bad = json.loads(done.stdout)
    assert not bad["success"], "the check does not check"
    assert len(found) == len(commands)
    assert not [one["error_message"] for one in found if not one["success"]]

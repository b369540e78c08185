"""What Slurm, Kubernetes and SkyPilot are handed: read back, and checked by their own tools where they are."""

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from adafocus_jax.cli.main import main, parse
from adafocus_jax.errors import UserError
from adafocus_jax.launch.bundle import Bundle
from adafocus_jax.launch.gke import GkeJob, jobset, manifest
from adafocus_jax.launch.sky import sky_task
from adafocus_jax.launch.slurm import SlurmJob, batch_script

WORKDIR = "/shared/runs/a b'$c"
WORDS = ["train", "--config", "configs/x.py", "--workdir", WORKDIR]


@pytest.mark.parametrize(
    "job",
    [
        SlurmJob(2, 8, time="1-00:00:00"),
        SlurmJob(2, 8, tasks_per_node=1),
        SlurmJob(1, 0, options=("--partition=a",)),
    ],
    ids=["task-per-gpu", "task-per-node", "cpu"],
)
def test_batch_scripts_are_clean_shell(job, tmp_path):
    script = batch_script(WORDS, job)
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0
    if shutil.which("shellcheck"):
        done = subprocess.run(
            ["shellcheck", "--severity=warning", "-"],
            input=script,
            text=True,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
    assert f"--ntasks-per-node={job.tasks}" in script
    assert ("JAX_LOCAL_DEVICE_IDS=0,1,2,3,4,5,6,7" in script) == (job.tasks == 1 and job.gpus == 8)


@pytest.fixture
def fake_slurm(tmp_path, monkeypatch):
    """srun ends with the status that stands in a file; scontrol notes its words."""
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    for name, body in {
        "srun": f"exit $(cat {tmp_path}/status)",
        "scontrol": f'echo "$@" >>{tmp_path}/scontrol',
    }.items():
        (bin_ / name).write_text(f"#!/bin/sh\n{body}\n")
        (bin_ / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "7")

    def run(script, status) -> bool:
        """Whether the job asks to be requeued."""
        (tmp_path / "status").write_text(str(status))
        (tmp_path / "scontrol").unlink(missing_ok=True)
        done = subprocess.run(
            ["bash"], input=script, text=True, cwd=tmp_path, capture_output=True, check=False
        )
        assert done.returncode == status
        return (tmp_path / "scontrol").exists()

    return run


def test_a_job_is_requeued_where_a_run_can_resume_and_not_for_ever(fake_slurm, tmp_path):
    workdir = tmp_path / "runs" / "a b'$c"
    workdir.mkdir(parents=True)
    script = batch_script(["train", "--workdir", str(workdir)], SlurmJob(), max_restarts=2)
    assert [fake_slurm(script, status) for status in (0, 1, 2, 130)] == [False] * 4
    assert [fake_slurm(script, 143) for _ in range(5)] == [True] * 5
    assert [fake_slurm(script, status) for status in (75, 134, 137)] == [True, True, False]
    (workdir / "checkpoints" / "10").mkdir(parents=True)
    assert [fake_slurm(script, 75) for _ in range(3)] == [True, True, False]


@pytest.mark.parametrize(
    ("job", "message"),
    [
        ({"nodes": 0}, "nodes=0"),
        ({"gpus": 8, "tasks_per_node": 3}, "tasks_per_node=3"),
        ({"time": "tomorrow"}, "time='tomorrow'"),
        ({"options": ("partition",)}, "option='partition'"),
    ],
)
def test_jobs_that_cannot_be_are_refused(job, message):
    with pytest.raises(UserError, match=message):
        SlurmJob(**job)


TPU = GkeJob("mine", "image:1", type="v6e-64", buckets=("b:/data",), spot=True)
GPU = GkeJob("mine", "image:1", nodes=2, gpus=8)


@pytest.mark.parametrize("job", [TPU, GPU], ids=["tpu", "gpu"])
def test_a_jobset_holds_a_job_that_kubernetes_takes(job):
    text = manifest(WORDS, job)
    found = yaml.safe_load(text)
    assert found == jobset(WORDS, job)
    inner = found["spec"]["replicatedJobs"][0]["template"]["spec"]
    assert inner["parallelism"] == inner["completions"] == (16 if job.type else 2)
    script = inner["template"]["spec"]["containers"][0]["command"][2]
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0
    assert shlex.quote(WORKDIR) in script
    validate = pytest.importorskip("kubernetes_validate", reason="checks the Job against Kubernetes' schema")
    whole = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "x"}, "spec": inner}
    validate.validate(whole, "1.30", strict=True)
    inner["paralellism"] = 1
    with pytest.raises(Exception, match="paralellism"):
        validate.validate(whole, "1.30", strict=True)


def test_pods_with_gpus_find_each_other_by_the_name_of_the_first():
    script = jobset(WORDS, GPU)["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"][
        "containers"
    ][0]
    assert (
        '--coordinator mine-run-0-0.mine:8476 --num-processes 2 --process-id "$JOB_COMPLETION_INDEX"'
        in (script["command"][2])
    )
    assert script["resources"]["limits"] == {"nvidia.com/gpu": 8}


@pytest.mark.parametrize(
    ("job", "message"),
    [
        ({"name": "Mine"}, "name='Mine'"),
        ({"type": "v6e-64", "gpus": 8}, "one of them"),
        ({}, "one of them"),
        ({"type": "v6e-64", "buckets": ("b",)}, "bucket='b'"),
        ({"gpus": 1, "nodes": 0}, "nodes=0"),
    ],
)
def test_jobsets_that_cannot_be_are_refused(job, message):
    with pytest.raises(UserError, match=message):
        GkeJob(**{"name": "mine", "image": "i", **job})


def test_a_sky_task_is_yaml_whose_command_is_shell():
    task = yaml.safe_load(sky_task(WORDS, accelerators="H100:8", nodes=2, spot=True))
    assert task["num_nodes"] == 2
    assert task["resources"]["use_spot"] is True
    assert subprocess.run(["bash", "-n"], input=task["run"], text=True, check=False).returncode == 0
    assert "--num-processes" in task["run"]
    assert task["setup"] == "pip install -e '.[cuda13]'"


@pytest.mark.parametrize(
    "words",
    [
        ["local", "--processes", "2"],
        ["slurm", "--nodes", "2", "--gpus", "8"],
        ["gke", "mine", "--image", "i", "--type", "v6e-64"],
        ["sky", "task.yaml", "--accelerators", "H100:8"],
        ["tpu", "mine", "--zone", "z", "--type", "v6e-8"],
    ],
    ids=lambda words: words[0],
)
def test_a_dry_run_prints_what_it_would_send_and_sends_nothing(words, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert main(["launch", *words, "--dry-run", "--", *WORDS]) == 0
    assert shlex.quote(WORDS[-1]).split("'")[1] in capsys.readouterr().out
    assert not (tmp_path / "task.yaml").exists()


def test_what_cannot_be_launched_is_refused_in_a_line(capsys):
    assert main(["launch", "local", "--", "predict", "x"]) == 2
    assert "'predict' cannot be launched: give one of train" in capsys.readouterr().err
    assert main(["launch", "local", "--processes", "0", "--", *WORDS]) == 2
    assert "--processes 0 is not valid" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["local", "slurm", "gke", "tpu"])
def test_the_script_of_each_place_is_what_the_command_takes(place, tmp_path, monkeypatch, capsys):
    """As it stands in launch/, with a word more, up to the last flag."""
    root = Path(__file__).parents[2]
    stub = tmp_path / "adafocus"
    stub.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    stub.chmod(0o755)
    path = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    script = ["bash", str(root / "launch" / f"{place}.sh"), "--config.seed=1"]
    words = subprocess.run(script, env=path, capture_output=True, text=True, check=True).stdout.splitlines()
    monkeypatch.setattr("adafocus_jax.cli.launch_places.make_bundle", lambda folder: Bundle(b"", "commit"))
    assert main([*words[: words.index("--")], "--dry-run", *words[words.index("--") :]]) == 0
    assert "--config.seed=1" in capsys.readouterr().out
    assert parse(words[words.index("--") + 1 :]).config == "configs/custom.py"

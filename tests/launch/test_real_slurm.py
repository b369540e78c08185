"""A real Slurm cluster of one node, from Debian's packages (slurm-wlm, munge), with a stand-in for the run."""

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

from adafocus_jax.launch.slurm import SlurmJob, batch_script, submit

pytestmark = pytest.mark.skipif(
    shutil.which("slurmctld") is None or os.getuid() != 0,
    reason="needs root and Debian's slurm-wlm and munge",
)
FAKE = Path(__file__).with_name("fake_adafocus.sh")
CONF = """\
ClusterName=test
SlurmctldHost=localhost(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SlurmctldPidFile={d}/slurmctld.pid
SlurmdPidFile={d}/slurmd.pid
StateSaveLocation={d}/state
SlurmdSpoolDir={d}/spool
SlurmctldLogFile={d}/slurmctld.log
SlurmdLogFile={d}/slurmd.log
SlurmctldPort={port}
SlurmdPort={port2}
KillWait=60
ReturnToService=2
NodeName=localhost NodeHostname={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=all Nodes=localhost Default=YES MaxTime=INFINITE State=UP
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slurm")
    for name in ("state", "spool"):
        (folder / name).mkdir()
    conf = folder / "slurm.conf"
    host = socket.gethostname()
    conf.write_text(CONF.format(d=folder, port=free_port(), port2=free_port(), host=host))
    started = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(conf))
        if subprocess.run(["munge", "-n"], capture_output=True, check=False).returncode:
            for path in ("/run/munge", "/var/log/munge", "/var/lib/munge"):
                Path(path).mkdir(parents=True, exist_ok=True)
                shutil.chown(path, "munge", "munge")
            subprocess.run(["su", "-s", "/bin/sh", "munge", "-c", "/usr/sbin/munged"], check=True)
        try:
            for words in (["slurmctld", "-D"], ["slurmd", "-D", "-N", "localhost"]):
                started.append(subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
                time.sleep(2)
            for _ in range(40):
                info = subprocess.run(
                    ["timeout", "9", "sinfo", "-h", "-o", "%T"], capture_output=True, text=True, check=False
                )
                if info.stdout.strip() == "idle":
                    break
                time.sleep(0.5)
            else:
                pytest.skip(f"Slurm does not start here: {info.stdout} {info.stderr}")
            bin_ = folder / "bin"
            bin_.mkdir()
            # A task of the job is a worker of the stand-in.
            (bin_ / "adafocus").write_text(
                f'#!/bin/sh\nexport FAKE_WORKER=$SLURM_PROCID\nexec bash {FAKE} "$@"\n'
            )
            (bin_ / "adafocus").chmod(0o755)
            patch.setenv("PATH", f"{bin_}:{os.environ['PATH']}")
            patch.chdir(folder)
            yield folder
        finally:
            subprocess.run(["scancel", "--state=RUNNING"], check=False, capture_output=True, timeout=30)
            for process in reversed(started):
                process.terminate()
                process.wait(30)


def wait_for(condition, job, sec=120):
    deadline = time.monotonic() + sec
    while not condition():
        assert time.monotonic() < deadline, subprocess.run(["squeue"], capture_output=True, text=True).stdout
        # A requeued job waits for two minutes; a test does not.
        subprocess.run(
            ["scontrol", "update", f"JobId={job}", "StartTime=now"], capture_output=True, check=False
        )
        time.sleep(0.3)


def state(job) -> str:
    shown = subprocess.run(
        ["scontrol", "show", "job", job], capture_output=True, text=True, check=False
    ).stdout
    return next((word.partition("=")[2] for word in shown.split() if word.startswith("JobState=")), "GONE")


@pytest.mark.parametrize("fault", [[], ["1=75@30"]], ids=["scancel-term", "lost-peer"])
def test_two_tasks_are_requeued_and_finish(slurm, tmp_path, fault):
    workdir = tmp_path / "run"
    steps = "60"
    words = ["train", "--workdir", str(workdir), steps, *fault]
    job = submit(batch_script(words, SlurmJob(nodes=1, tasks_per_node=2)))
    if not fault:
        wait_for((workdir / "checkpoints" / "5").exists, job)
        subprocess.run(["scancel", "--signal=TERM", job], check=True)
    wait_for(lambda: state(job) in ("COMPLETED", "FAILED", "CANCELLED"), job)
    assert state(job) == "COMPLETED"
    assert (workdir / "checkpoints" / steps).is_dir()
    assert len((workdir / "starts").read_text().splitlines()) == 4
    assert not (workdir / "twice").exists()


def test_a_user_error_is_not_requeued(slurm, tmp_path):
    job = submit(
        batch_script(["train", "--workdir", str(tmp_path / "run"), "9", "0=2@3"], SlurmJob(tasks_per_node=2))
    )
    wait_for(lambda: state(job) in ("COMPLETED", "FAILED", "CANCELLED"), job)
    assert state(job) == "FAILED"
    assert len((tmp_path / "run" / "starts").read_text().splitlines()) == 2

"""A JobSet for Google Kubernetes Engine: one pod per host of a TPU slice, or per node of GPUs."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from adafocus_jax.errors import UserError
from adafocus_jax.launch.commands import COORDINATOR_PORT, check_command, for_process
from adafocus_jax.launch.slices import find_slice

_CONTAINER = "adafocus"
# A slice is one node pool, and is not shared.
_EXCLUSIVE = {"alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"}
_INDEX = '"$JOB_COMPLETION_INDEX"'


@dataclass(frozen=True)
class GkeJob:
    """What is asked of the cluster: either ``type``, a TPU slice, or ``nodes`` of ``gpus``."""

    name: str
    image: str
    type: str = ""
    """Such as ``v6e-64``; empty: GPUs."""
    nodes: int = 1
    gpus: int = 0
    """Per node."""
    spot: bool = False
    buckets: tuple[str, ...] = ()
    """``BUCKET:/PATH``: mounted by gcsfuse."""
    service_account: str = ""
    """Of Kubernetes, with access to the buckets; empty: the default one."""
    max_restarts: int = 100
    """Of the whole JobSet, preemptions included."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?", self.name):
            raise UserError(
                f"name={self.name!r} is not valid: give up to 40 of a-z, 0-9 and -, a letter first"
            )
        if bool(self.type) == bool(self.gpus):
            raise UserError(
                f"type={self.type!r} gpus={self.gpus}: give a TPU slice or GPUs per node, one of them"
            )
        if self.nodes < 1:
            raise UserError(f"nodes={self.nodes} is not valid: give 1 or more")
        for bucket in self.buckets:
            if not re.fullmatch(r"[^:/]+:/.+", bucket):
                raise UserError(f"bucket={bucket!r} is not valid: give BUCKET:/PATH")


def jobset(words: Sequence[str], job: GkeJob) -> dict[str, Any]:
    """The JobSet, of what YAML holds. Statuses 1 and 2 fail it; any other bad end starts all pods anew.

    Raises:
      UserError: the command cannot be launched so.
    """
    check_command(words)
    hosts = find_slice(job.type).nodes if job.type else job.nodes
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 180,
        "containers": [_container(words, job, hosts)],
    }
    selector: dict[str, str] = {}
    if job.type:
        tpu = find_slice(job.type)
        selector["cloud.google.com/gke-tpu-accelerator"] = tpu.generation.gke
        selector["cloud.google.com/gke-tpu-topology"] = tpu.topology
    if job.spot:
        selector["cloud.google.com/gke-spot"] = "true"
    if selector:
        pod["nodeSelector"] = selector
    if job.service_account:
        pod["serviceAccountName"] = job.service_account
    if job.buckets:
        pod["volumes"] = [
            {
                "name": f"bucket-{i}",
                "csi": {
                    "driver": "gcsfuse.csi.storage.gke.io",
                    "volumeAttributes": {
                        "bucketName": bucket.partition(":")[0],
                        "mountOptions": "implicit-dirs",
                    },
                },
            }
            for i, bucket in enumerate(job.buckets)
        ]
    template = {
        "metadata": {"annotations": {"gke-gcsfuse/volumes": "true"} if job.buckets else {}},
        "spec": pod,
    }
    inner = {
        "backoffLimit": 0,
        "completionMode": "Indexed",
        "parallelism": hosts,
        "completions": hosts,
        "podFailurePolicy": {
            "rules": [
                {
                    "action": "FailJob",
                    "onExitCodes": {"containerName": _CONTAINER, "operator": "In", "values": [1, 2]},
                }
            ]
        },
        "template": template,
    }
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": {"name": job.name, "annotations": _EXCLUSIVE if job.type else {}},
        "spec": {
            "failurePolicy": {
                "maxRestarts": job.max_restarts,
                "rules": [{"action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}],
            },
            "network": {"enableDNSHostnames": True, "subdomain": job.name},
            "replicatedJobs": [{"name": "run", "replicas": 1, "template": {"spec": inner}}],
        },
    }


def manifest(words: Sequence[str], job: GkeJob) -> str:
    """The JobSet as YAML."""
    return yaml.safe_dump(jobset(words, job), sort_keys=False, width=120)


def apply(text: str) -> None:
    """Hands a manifest to ``kubectl``.

    Raises:
      UserError: there is no kubectl here, or the cluster refuses.
    """
    try:
        done = subprocess.run(
            ["kubectl", "apply", "-f", "-"], input=text, capture_output=True, text=True, timeout=300
        )
    except FileNotFoundError as error:
        raise UserError("kubectl is not here: install it, or see dry_run=True for the manifest") from error
    except subprocess.TimeoutExpired as error:
        raise UserError(
            f"kubectl does not answer in {error.timeout:.0f} s: see whether its server is up"
        ) from error
    if done.returncode:
        raise UserError(f"kubectl refuses: {' '.join(done.stderr.split())}")


def _container(words: Sequence[str], job: GkeJob, hosts: int) -> dict[str, Any]:
    amount = (
        {"google.com/tpu": find_slice(job.type).chips_per_host} if job.type else {"nvidia.com/gpu": job.gpus}
    )
    container: dict[str, Any] = {
        "name": _CONTAINER,
        "image": job.image,
        # A shell, for the pod's number; exec, so that SIGTERM reaches the run.
        "command": ["bash", "-c", _script(words, job, hosts)],
        "env": [{"name": "PYTHONUNBUFFERED", "value": "1"}],
        "ports": [{"containerPort": COORDINATOR_PORT}],
        "resources": {"requests": dict(amount), "limits": dict(amount)},
    }
    if job.buckets:
        container["volumeMounts"] = [
            {"name": f"bucket-{i}", "mountPath": bucket.partition(":")[2]}
            for i, bucket in enumerate(job.buckets)
        ]
    return container


def _script(words: Sequence[str], job: GkeJob, hosts: int) -> str:
    """The command of a pod. TPU pods find each other by what GKE tells them; others by the name of the first."""
    command = shlex.join(["adafocus", *words])
    if hosts == 1 or words[0] == "sweep":
        return f"exec {command}"
    for_process(words, 0, hosts, "")
    if words[0] == "prepare":
        return f"exec {command} --shard {_INDEX}/{hosts}"
    if job.type:
        return f"exec {command}"
    first = f"{job.name}-run-0-0.{job.name}:{COORDINATOR_PORT}"
    return f"exec {command} --coordinator {first} --num-processes {hosts} --process-id {_INDEX}"

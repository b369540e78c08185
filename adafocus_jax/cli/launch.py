"""``adafocus launch PLACE``: starts a command where it belongs, and again until it is done."""

from __future__ import annotations

import argparse
from typing import Any

from adafocus_jax.cli import launch_places
from adafocus_jax.launch.restarts import MAX_RESTARTS
from adafocus_jax.launch.tpu import SETUP

_DESCRIPTION = """\
Starts a command of this program (train, prepare, sweep, evaluate ...), given behind --, in several processes of this
machine, on a Cloud TPU slice, on GKE, on a Slurm cluster, or writes a task file for SkyPilot.

A run that lost a process or a machine (statuses 75, 134, 137, 143) is started again and resumes from its last
checkpoint: preemptions any number of times, failures --max-restarts times without a new checkpoint in between. Statuses
1 and 2 end it, and the line that says why is shown. --dry-run prints every command and manifest, and does nothing."""

_EPILOG = """\
examples:
  adafocus launch local --processes 4 --devices 2 -- train --config configs/demo.py --data records/ --workdir runs/demo
  adafocus launch tpu mine --zone us-east5-b --type v6e-64 --spot --bucket b:/mnt/b -- \\
      train --config configs/custom.py --data /mnt/b/records --workdir /mnt/b/runs/mine
  adafocus launch tpu mine --zone us-east5-b --status
  adafocus launch slurm --nodes 2 --gpus 8 --time 12:00:00 -- \\
      train --config configs/custom.py --data records/ --workdir runs/mine
  adafocus launch gke mine --type v6e-64 --image IMAGE --bucket b:/data -- \\
      train --config configs/custom.py --data /data/records --workdir /data/runs/mine
  adafocus launch sky task.yaml --accelerators H100:8 --nodes 2 -- \\
      train --config configs/custom.py --data records/ --workdir runs/mine"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the places, each with its flags."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    places = parser.add_subparsers(dest="place", metavar="PLACE", required=True)
    one = _place(
        places,
        "local",
        launch_places.local_,
        "processes of this machine, each with its own devices",
    )
    one("--processes", type=int, default=1, metavar="N", help="(default %(default)s)")
    one("--devices", type=int, metavar="N", help="simulated CPU devices of each process")
    one = _place(
        places, "slurm", launch_places.slurm_, "a job of a Slurm cluster, requeued when it was preempted"
    )
    one("--nodes", type=int, default=1, help="(default %(default)s)")
    one("--gpus", type=int, default=0, help="per node; 0: CPUs alone (default %(default)s)")
    one("--tasks-per-node", type=int, help="1: one process drives all GPUs of a node (default: one per GPU)")
    one("--time", default="", help="limit, as sbatch reads it")
    one(
        "--option",
        action="append",
        default=[],
        metavar="OPTION",
        help="more for sbatch: --option=--partition=a100",
    )
    one = _place(places, "gke", launch_places.gke_, "a JobSet on Google Kubernetes Engine, on TPUs or GPUs")
    _cloud(one, "name of the JobSet")
    one("--image", required=True, help="container image (launch/Dockerfile makes one)")
    one("--nodes", type=int, default=1, help="of GPUs (default %(default)s)")
    one("--gpus", type=int, default=0, help="per node")
    one("--service-account", default="", help="of Kubernetes, with access to the buckets")
    one = _place(
        places, "tpu", launch_places.tpu_, "a Cloud TPU slice, through gcloud; given back at the end"
    )
    _cloud(one, "name of the slice")
    one("--zone", required=True, help="of Google Cloud")
    one("--project", default="", help="of Google Cloud (default: gcloud's)")
    one("--runtime", default="", help="software version of the VMs (default: that of the TPU generation)")
    one(
        "--setup",
        default=SETUP,
        metavar="COMMAND",
        help="installs the code on a worker (default: %(default)s)",
    )
    one("--keep", action="store_true", help="leave the slice when the run is over")
    one("--status", action="store_true", help="say how slice and workers are, and end")
    one("--logs", metavar="W|all", help="show the end of a worker's log, and end")
    one("--down", action="store_true", help="end the run, give the slice back, and end")
    one = _place(places, "sky", launch_places.sky_, "write a task file for SkyPilot")
    one("file", metavar="FILE", help="YAML to write")
    one("--accelerators", required=True, help="such as H100:8 or tpu-v6e-8")
    one("--nodes", type=int, default=1, help="(default %(default)s)")
    one("--spot", action="store_true", help="preemptible machines")


def _place(places: Any, name: str, run: Any, text: str) -> Any:
    sub = places.add_parser(name, help=text, description=text)
    sub.set_defaults(launch=run)
    sub.add_argument("--max-restarts", type=int, default=MAX_RESTARTS, help="failures without a new checkpoint in "
        "between (default %(default)s)")  # fmt: skip
    sub.add_argument("--dry-run", action="store_true", help="print commands and manifests, and do nothing")
    return sub.add_argument


def _cloud(add: Any, name: str) -> None:
    add("name", help=name)
    add("--type", default="", help="TPU slice, such as v6e-64 or v4-128")
    add("--spot", action="store_true", help="preemptible machines, which cost less")
    add(
        "--bucket",
        action="append",
        default=[],
        metavar="BUCKET:PATH",
        help="mount a bucket of Google Cloud Storage",
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Launches; the status is that of the run."""
    return {"place": args.place, **args.launch(args)}

"""From the flags of ``adafocus launch`` to one call of the library per place."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from adafocus_jax.errors import UserError
from adafocus_jax.launch import gke, local, sky, slurm, tpu
from adafocus_jax.launch.bundle import make_bundle
from adafocus_jax.launch.gcloud import Gcloud
from adafocus_jax.launch.slices import find_slice


def local_(args: argparse.Namespace) -> dict[str, Any]:
    """Processes of this machine."""
    processes = local.LocalProcesses(args.processes, args.devices)
    return {
        "status": local.launch_local(
            args.after, processes, max_restarts=args.max_restarts, dry_run=args.dry_run
        )
    }


def slurm_(args: argparse.Namespace) -> dict[str, Any]:
    """A batch job."""
    job = slurm.SlurmJob(args.nodes, args.gpus, args.tasks_per_node, args.time, tuple(args.option))
    script = slurm.batch_script(args.after, job, max_restarts=args.max_restarts)
    return _show(script, args) or {"job": slurm.submit(script)}


def gke_(args: argparse.Namespace) -> dict[str, Any]:
    """A JobSet."""
    job = gke.GkeJob(args.name, args.image, args.type, args.nodes, args.gpus, args.spot, tuple(args.bucket),
        args.service_account)  # fmt: skip
    text = gke.manifest(args.after, job)
    return _show(text, args) or _then({"name": args.name}, gke.apply, text)


def sky_(args: argparse.Namespace) -> dict[str, Any]:
    """A task file."""
    text = sky.sky_task(args.after, accelerators=args.accelerators, nodes=args.nodes, spot=args.spot)
    return _show(text, args) or _then({"file": args.file}, sky.write_task, args.file, text)


def tpu_(args: argparse.Namespace) -> dict[str, Any]:
    """A TPU slice: launched, watched, or asked how it is."""
    gcloud = Gcloud(args.name, args.zone, args.project)
    if args.status:
        print("\n".join(tpu.status(gcloud, find_slice(args.type) if args.type else None)))
    elif args.logs is not None:
        print(tpu.logs(gcloud, args.logs), end="")
    elif args.down:
        tpu.down(gcloud)
    else:
        if len(args.bucket) > 1:
            raise UserError(f"bucket={args.bucket}: give one")
        bundle = make_bundle(Path.cwd())
        made = tpu.TpuRun(gcloud, find_slice(args.type), tuple(args.after), bundle, args.setup, args.runtime, args.spot,
            *args.bucket)  # fmt: skip
        if args.dry_run:
            return _show("\n".join(map(shlex.join, tpu.dry_run(made))) + "\n", args)
        return {"status": tpu.launch_tpu(made, max_restarts=args.max_restarts, keep=args.keep)}
    return {}


def _show(text: str, args: argparse.Namespace) -> dict[str, Any]:
    """Prints what a dry run would send; nothing otherwise."""
    if args.dry_run:
        print(text, end="")
    return {"dry_run": text} if args.dry_run else {}


def _then(figures: dict[str, Any], work: Callable[..., None], *words: Any) -> dict[str, Any]:
    work(*words)
    return figures

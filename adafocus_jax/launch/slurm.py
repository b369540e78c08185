"""The batch script of a run on a Slurm cluster: processes find each other, and what can resume is requeued."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from adafocus_jax.errors import UserError
from adafocus_jax.launch.commands import check_command, for_process, workdir_of
from adafocus_jax.launch.restarts import FINAL, MAX_RESTARTS, PREEMPTED, RESTARTED


@dataclass(frozen=True)
class SlurmJob:
    """What is asked of Slurm."""

    nodes: int = 1
    gpus: int = 0
    """Per node; 0: CPUs alone."""
    tasks_per_node: int | None = None
    """None: one per GPU. One task with several GPUs gets all of them."""
    time: str = ""
    """Limit, as ``sbatch --time`` reads it; empty: the partition's."""
    options: tuple[str, ...] = ()
    """More for ``#SBATCH``, such as ``--partition=a100``."""
    name: str = "adafocus"

    def __post_init__(self) -> None:
        if self.nodes < 1 or self.gpus < 0:
            raise UserError(
                f"nodes={self.nodes} gpus={self.gpus} is not valid: give 1 node or more, 0 GPUs or more"
            )
        if self.tasks not in {1, max(self.gpus, 1)} and self.gpus:
            raise UserError(f"tasks_per_node={self.tasks} is not valid: give 1, or {self.gpus}, one per GPU")
        if self.time and not re.fullmatch(r"(\d+-)?\d+(:\d+){0,2}", self.time):
            raise UserError(f"time={self.time!r} is not valid: give minutes, HH:MM:SS or D-HH:MM:SS")
        for option in self.options:
            if not option.startswith("-") or "\n" in option:
                raise UserError(f"option={option!r} is not one of sbatch: give --NAME=VALUE")

    @property
    def tasks(self) -> int:
        """Tasks per node."""
        return self.tasks_per_node if self.tasks_per_node is not None else max(self.gpus, 1)


def batch_script(words: Sequence[str], job: SlurmJob, *, max_restarts: int = MAX_RESTARTS) -> str:
    """The script for ``sbatch``.

    Raises:
      UserError: the command cannot be launched so.
    """
    check_command(words)
    count = job.nodes * job.tasks
    if count > 1:
        for_process(words, 0, count, "")
    lines = [
        f"#SBATCH --job-name={job.name}",
        f"#SBATCH --nodes={job.nodes}",
        f"#SBATCH --ntasks-per-node={job.tasks}",
    ]
    lines += [f"#SBATCH --gpus-per-node={job.gpus}"] if job.gpus else []
    lines += [f"#SBATCH --time={job.time}"] if job.time else []
    lines += ["#SBATCH --requeue", "#SBATCH --open-mode=append", "#SBATCH --signal=TERM@180"]
    lines += [f"#SBATCH {option}" for option in job.options]
    setup = []
    if job.gpus > 1 and job.tasks == 1:
        # JAX gives a task of Slurm the one device of its local number, unless it is told otherwise.
        setup.append(f"export JAX_LOCAL_DEVICE_IDS={','.join(map(str, range(job.gpus)))}")
    command = shlex.join(["adafocus", *words])
    part = ' --shard "$SLURM_PROCID/$SLURM_NTASKS"' if words[0] == "prepare" and count > 1 else ""
    return _SCRIPT.format(
        options="\n".join(lines),
        setup="\n".join([*setup, ""]) if setup else "",
        task=command + part,
        last=f" && srun --nodes=1 --ntasks=1 {command} --finalize" if part else "",
        final="|".join(str(status) for status in FINAL),
        restarted="|".join(str(status) for status in RESTARTED),
        preempted=PREEMPTED,
        workdir=shlex.quote(str(workdir_of(words) or "")),
        max_restarts=max_restarts,
    )


_SCRIPT = """\
#!/usr/bin/env bash
# Made by `adafocus launch slurm`. Records and workdir lie on storage that all nodes share.
{options}
set -u
{setup}workdir={workdir} status=0
notes="${{workdir:-.}}/.slurm-$SLURM_JOB_ID"
mkdir -p "${{workdir:-.}}"
rm -f "$notes.final"
export notes
task() {{
  # Slurm signals every process of a task, this shell as well; the run saves, and the shell waits for it.
  trap : TERM
  {task}
  local status=$?
  # Of all tasks srun tells the highest status alone, which is that of those whom the failed one took along.
  case $status in {final}) echo "$status" >"$notes.final" ;; esac
  return "$status"
}}
export -f task
# Slurm warns with SIGTERM before the time is up.
trap : TERM
srun --kill-on-bad-exit=1 bash -c task{last} || status=$?
[ -s "$notes.final" ] && exit "$(cat "$notes.final")"
case $status in {restarted}) ;; *) exit "$status" ;; esac
# A run that dies without a new checkpoint in between is not started for ever.
newest() {{
  find "$workdir/checkpoints" -mindepth 1 -maxdepth 1 -name '[0-9]*' -printf '%f\\n' 2>/dev/null | sort -n | tail -n 1
}}
failures=0 step=
[ -e "$notes" ] && read -r failures step <"$notes"
now=$(newest)
[ "$now" = "$step" ] || failures=0
[ "$status" -eq {preempted} ] || failures=$((failures + 1))
printf '%s %s\\n' "$failures" "$now" >"$notes"
if [ "$failures" -gt {max_restarts} ]; then
  echo "adafocus: status $status, $failures times without progress: not requeued" >&2
  exit "$status"
fi
scontrol requeue "$SLURM_JOB_ID"
exit "$status"
"""


def submit(script: str) -> str:
    """Hands the script to ``sbatch``; returns the job's number.

    Raises:
      UserError: there is no Slurm here, or it refuses.
    """
    try:
        done = subprocess.run(
            ["sbatch", "--parsable"], input=script, capture_output=True, text=True, timeout=120
        )
    except FileNotFoundError as error:
        raise UserError(
            "sbatch is not here: run this on a login node of the cluster, or see dry_run=True"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise UserError(
            f"sbatch does not answer in {error.timeout:.0f} s: see whether its server is up"
        ) from error
    if done.returncode:
        raise UserError(f"sbatch refuses: {' '.join(done.stderr.split())}")
    return done.stdout.strip().partition(";")[0]

#!/usr/bin/env bash
# Trains on the GPUs of several nodes: one process per GPU, which find each other through Slurm.
#   sbatch --nodes=2 --gpus-per-node=8 --ntasks-per-node=8 launch/slurm.sh CONFIG RECORDS WORKDIR [--config.SETTING=VALUE ...]
# Records and workdir lie on storage that all nodes share. Slurm warns with SIGTERM before the time is up; the run then
# saves and ends with 143, and the job queues itself again.
#SBATCH --job-name=adafocus
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=TERM@120
set -u
config=$1 data=$2 workdir=$3
shift 3
srun adafocus train --config "$config" --data "$data" --workdir "$workdir" "$@"
status=$?
[ "$status" -ne 143 ] || scontrol requeue "$SLURM_JOB_ID"
exit "$status"

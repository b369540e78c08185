#!/usr/bin/env bash
# Trains on all workers of a Cloud TPU slice, which find each other by themselves.
#   launch/tpu_pod.sh TPU ZONE CONFIG RECORDS WORKDIR [--config.SETTING=VALUE ...]
# On every worker first, once: the repository in ~/adafocus_jax, and `pip install -e '.[tpu]'` there. RECORDS and WORKDIR
# lie where all workers see them (a mounted bucket or NFS). Started again after a preemption, the run goes on.
set -eu
tpu=$1 zone=$2 config=$3 data=$4 workdir=$5
shift 5
printf -v flags ' %q' --config "$config" --data "$data" --workdir "$workdir" "$@"
gcloud compute tpus tpu-vm ssh "$tpu" --zone "$zone" --worker=all --command "cd adafocus_jax && adafocus train$flags"

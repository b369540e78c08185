#!/usr/bin/env bash
# Trains on a Slurm cluster: run this on a login node. Records and workdir lie on storage that all nodes share.
set -eu
config=configs/custom.py data=/shared/records workdir=/shared/runs/mine
nodes=2 gpus=8 time=24:00:00

exec adafocus launch slurm --nodes "$nodes" --gpus "$gpus" --time "$time" -- \
  train --config "$config" --data "$data" --workdir "$workdir" "$@"

#!/usr/bin/env bash
# Trains in several processes of this machine, and again until it is done. Edit the settings, then run it.
set -eu
config=configs/custom.py data=records/ workdir=runs/mine
processes=1        # of GPUs: at most one process per GPU

exec adafocus launch local --processes "$processes" -- \
  train --config "$config" --data "$data" --workdir "$workdir" "$@"
